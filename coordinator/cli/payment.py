"""``edgeforge payment``: how accounts stand, cards, charges."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli import completion, money
from coordinator.cli.common import JsonOption, admin, group
from protos.domain.errors import InvalidRequest
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import billing_pb2

app = group("payment", "Payments: cards, charges, what is owed.")

AccountArgument = Annotated[str, typer.Argument(autocompletion=completion.accounts)]
_TIMEOUT_S = 120.0


@app.command("status")
def status(account: AccountArgument, json_output: JsonOption = False) -> None:
    """Show how an account stands: its state, what it may still spend, what it owes and has paid.

    Example: edgeforge payment status acme
    """
    found = _status(account)
    if json_output:
        print_json(
            {
                "account": found.account_id,
                "state": found.state,
                "provider": found.provider,
                "has_customer": found.has_customer,
                "prepaid": found.prepaid,
                "cap_nano_usd": found.cap_nano_usd,
                "own_cap_nano_usd": found.own_cap_nano_usd,
                "remaining_nano_usd": (
                    found.remaining_nano_usd if found.HasField("remaining_nano_usd") else None
                ),
                "open_invoices": [
                    {"number": one.number, "open_cents": one.open_cents}
                    for one in found.open_invoices
                ],
                "payments": [_payment_json(one) for one in found.payments],
            }
        )
        return
    left = (
        f"{money.usd_of_nano(found.remaining_nano_usd)} USD left to spend"
        if found.HasField("remaining_nano_usd")
        else "spending is not bounded"
    )
    print_line(f"{account}: {found.state}, {left}, charged by {found.provider}")
    for whose, cap in (
        ("edgeforge account cap", found.cap_nano_usd),
        ("the account itself", found.own_cap_nano_usd),
    ):
        if cap:
            print_line(f"capped at {money.usd_of_nano(cap)} USD a month by {whose}")
    for one in found.open_invoices:
        print_line(
            f"owes {money.usd(one.open_cents)} USD of {one.number}, due"
            f" {money.date(one.due_unix_ms)} {one.last_error}".rstrip()
        )
    print_table(
        ("payment", "for", "USD", "state", "at", "error"),
        (
            (
                one.key,
                one.number or "top-up",
                money.usd(one.cents),
                one.state,
                money.date(one.created_unix_ms),
                one.error or "-",
            )
            for one in found.payments
        ),
        "no payments yet",
    )


@app.command("setup")
def set_up(account: AccountArgument, json_output: JsonOption = False) -> None:
    """Begin to store a card; prints the secret with which the customer's browser confirms it.

    Example: edgeforge payment setup acme --json
    """
    request = billing_pb2.SetUpCardRequest(account_id=account)
    with admin() as client:
        made = client.billing(lambda stub: stub.SetUpCard, request, _TIMEOUT_S)
    if json_output:
        print_json({"setup_id": made.setup_id, "client_secret": made.client_secret})
    else:
        print_line(f"setup {made.setup_id}; confirm it in the browser with {made.client_secret}")


@app.command("charge")
def charge(
    account: AccountArgument,
    invoice: Annotated[str, typer.Option(help="Number of an invoice.")] = "",
    top_up_usd: Annotated[str, typer.Option(help="Or dollars of prepaid credit.")] = "",
    json_output: JsonOption = False,
) -> None:
    """Charge an invoice, or a top-up of the balance, to the stored card.

    Example: edgeforge payment charge acme --invoice EF-2026-000001
    """
    request = billing_pb2.ChargeRequest(
        account_id=account,
        number=invoice,
        top_up_cents=money.cents(top_up_usd, "--top-up-usd") if top_up_usd else 0,
    )
    with admin() as client:
        made = client.billing(lambda stub: stub.Charge, request, _TIMEOUT_S)
    _print_payments([made], json_output)


@app.command("retry")
def retry(account: AccountArgument, json_output: JsonOption = False) -> None:
    """Charge every invoice of an account that is open, the oldest first.

    Example: edgeforge payment retry acme
    """
    numbers = sorted(one.number for one in _status(account).open_invoices)
    if not numbers:
        raise InvalidRequest(f"{account} owes nothing")
    with admin() as client:
        made = [
            client.billing(
                lambda stub: stub.Charge,
                billing_pb2.ChargeRequest(account_id=account, number=number),
                _TIMEOUT_S,
            )
            for number in numbers
        ]
    _print_payments(made, json_output)


@app.command("record")
def record(
    account: AccountArgument,
    invoice: Annotated[str, typer.Option(help="Number of the invoice.")],
    reference: Annotated[str, typer.Option(help="How it was paid, such as the bank's reference.")],
    json_output: JsonOption = False,
) -> None:
    """Mark what is open of an invoice as paid by other means.

    Example: edgeforge payment record acme --invoice EF-2026-000001 --reference "SEPA 4711"
    """
    request = billing_pb2.RecordPaymentRequest(
        account_id=account, number=invoice, reference=reference
    )
    with admin() as client:
        cents = client.billing(lambda stub: stub.RecordPayment, request).cents
    if json_output:
        print_json({"number": invoice, "cents": cents})
    else:
        print_line(f"{money.usd(cents)} USD of {invoice} are paid")


def _status(account: str) -> billing_pb2.ShowPaymentsResponse:
    request = billing_pb2.ShowPaymentsRequest(account_id=account)
    with admin() as client:
        return client.billing(lambda stub: stub.ShowPayments, request)


def _print_payments(made: list[billing_pb2.PaymentRow], json_output: bool) -> None:
    if json_output:
        print_json([_payment_json(one) for one in made])
        return
    for one in made:
        about = one.number or "top-up"
        print_line(f"{about}: {money.usd(one.cents)} USD {one.state} {one.error}".rstrip())


def _payment_json(one: billing_pb2.PaymentRow) -> dict[str, object]:
    return {
        "key": one.key,
        "number": one.number,
        "cents": one.cents,
        "state": one.state,
        "created_unix_ms": one.created_unix_ms,
        "provider_id": one.provider_id,
        "error": one.error,
    }
