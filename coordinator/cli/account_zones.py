"""``edgeforge account zones``: where the requests of an account may be read and served."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.common import JsonOption, admin
from coordinator.cli.output import as_json
from protos.domain.errors import InvalidRequest
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import residency_pb2

ZoneOption = Annotated[
    list[str] | None,
    typer.Option("--zone", help="A zone that it is bound to, such as BR; repeatable."),
]


def add_to(app: typer.Typer) -> None:
    """Add the command to the group of accounts."""
    app.command("zones")(account_zones)


def account_zones(
    account: Annotated[str, typer.Argument(autocompletion=completion.accounts)],
    zone: ZoneOption = None,
    anywhere: Annotated[bool, typer.Option("--any", help="Bind it to no zone any more.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Show or set the zones that an account is bound to.

    Its keys, deployments, weights and traces are narrowed with it. Nothing is ever widened by
    this: a deployment keeps its own zones until it is updated.

    Example: edgeforge account zones acme --zone BR
    """
    if zone and anywhere:
        raise InvalidRequest("--zone and --any exclude each other", "give one of them")
    with admin() as client:
        if zone or anywhere:
            wanted = residency_pb2.SetAccountZonesRequest(account_id=account, zones=zone or ())
            found = client.residency(lambda stub: stub.SetAccountZones, wanted)
        else:
            asked = residency_pb2.ShowAccountZonesRequest(account_id=account)
            found = client.residency(lambda stub: stub.ShowAccountZones, asked)
    if json_output:
        print_json(as_json(found))
        return
    print_line(f"{found.account_id}: {', '.join(found.zones) or 'anywhere'}")
    lines = [("key", one.name, ", ".join(one.zones)) for one in found.keys]
    lines += [("deployment", one.name, ", ".join(one.zones)) for one in found.deployments]
    if lines:
        print_table(("bound further", "name", "zones"), lines, "")
