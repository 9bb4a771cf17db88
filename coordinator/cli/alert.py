"""``edgeforge alert``: where alerts on spending go."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.common import JsonOption, admin, group
from protos.domain.errors import InvalidRequest
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import billing_pb2

app = group("alert", "Alerts at 50, 80 and 100 % of a cap or a balance.")

AccountArgument = Annotated[str, typer.Argument(autocompletion=completion.accounts)]


@app.command("set")
def set_alerts(
    account: AccountArgument,
    webhook: Annotated[
        str | None, typer.Option(help="https:// address; empty: none. Its secret is shown once.")
    ] = None,
    email: Annotated[str | None, typer.Option(help="Address for mail; empty: none.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Set where an account's alerts go; what is not named stays.

    Example: edgeforge alert set acme --webhook https://acme.example/hook --email cfo@acme.example
    """
    if webhook is None and email is None:
        raise InvalidRequest("nothing is to be set", "name --webhook or --email")
    request = billing_pb2.SetAlertsRequest(account_id=account, url=webhook, email=email)
    with admin() as client:
        kept = client.billing(lambda stub: stub.SetAlerts, request)
    if json_output:
        print_json(_targets_json(kept))
        return
    print_line(f"alerts of {account}: {kept.url or 'no webhook'}, {kept.email or 'no email'}")
    if kept.secret:
        print_line(f"secret of the webhook, shown once: {kept.secret}")


@app.command("ls")
def list_alerts(account: AccountArgument, json_output: JsonOption = False) -> None:
    """List where an account's alerts go, and what was sent.

    Example: edgeforge alert ls acme
    """
    request = billing_pb2.ListAlertsRequest(account_id=account)
    with admin() as client:
        found = client.billing(lambda stub: stub.ListAlerts, request)
    if json_output:
        print_json(
            {
                "targets": _targets_json(found.targets),
                "deliveries": [_delivery_json(one) for one in found.deliveries],
            }
        )
        return
    targets = found.targets
    print_line(f"webhook: {targets.url or 'none'}; email: {targets.email or 'none'}")
    _print_deliveries(found)


@app.command("test")
def send_test(account: AccountArgument, json_output: JsonOption = False) -> None:
    """Send a test to the webhook and the email address at once.

    Example: edgeforge alert test acme
    """
    request = billing_pb2.TestAlertsRequest(account_id=account)
    with admin() as client:
        found = client.billing(lambda stub: stub.TestAlerts, request, 120.0)
    if json_output:
        print_json([_delivery_json(one) for one in found.deliveries])
    else:
        _print_deliveries(found)


def _print_deliveries(found: billing_pb2.ListAlertsResponse) -> None:
    print_table(
        ("id", "by", "to", "state", "attempts", "error"),
        (
            (one.id, one.channel, one.target, one.state, one.attempts, one.last_error or "-")
            for one in found.deliveries
        ),
        "nothing was sent",
    )


def _targets_json(one: billing_pb2.AlertTargets) -> dict[str, object]:
    kept = {"account": one.account_id, "webhook": one.url, "email": one.email}
    return {**kept, "secret": one.secret} if one.secret else dict(kept)


def _delivery_json(one: billing_pb2.AlertDelivery) -> dict[str, object]:
    return {
        "id": one.id,
        "channel": one.channel,
        "target": one.target,
        "state": one.state,
        "attempts": one.attempts,
        "last_error": one.last_error,
        "body": one.body,
    }
