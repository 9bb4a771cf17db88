"""``edgeforge price`` and ``table``: the price card, forced tables."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json, enum_word
from protos.domain.errors import InvalidRequest
from protos.domain.resources import ResourceType
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import admin_pb2, resources_pb2
from protos.wire import resource_type_to_wire

app = group("price", "The price card.")
table_app = group("table", "The routing table that agents hold.")


@app.command("ls")
def list_prices(json_output: JsonOption = False) -> None:
    """List the price card, in nano-USD per token.

    Example: edgeforge price ls
    """
    with admin() as client:
        prices = client.call(lambda stub: stub.ListPrices, admin_pb2.ListPricesRequest()).prices
    if json_output:
        print_json([as_json(price) for price in prices])
        return
    print_table(
        ("size class", "tier", "prompt", "cached", "completion", "card"),
        (
            (
                price.size_class,
                enum_word(resources_pb2.Tier.Name(price.tier), "TIER_"),
                price.prompt_nano_usd_per_token,
                price.cached_nano_usd_per_token,
                price.completion_nano_usd_per_token,
                price.card_version,
            )
            for price in prices
        ),
        "the price card is empty",
    )


@table_app.command("force")
def force_table(
    kind: Annotated[str, typer.Argument(help="topology, deployments, prices or desired.")],
) -> None:
    """Send a table again, past the agents' shrink guard.

    Agents refuse a table that empties or halves at once; this confirms that it is intended.

    Example: edgeforge table force topology
    """
    try:
        wire_type = resource_type_to_wire(ResourceType(kind))
    except ValueError:
        known = ", ".join(one.value for one in ResourceType)
        raise InvalidRequest(f"{kind!r} is no table", f"use one of {known}") from None
    request = admin_pb2.ForceTableRequest(type=wire_type)
    with admin() as client:
        response = client.call(lambda stub: stub.ForceTable, request)
    print_line(f"sent to {response.agents} agents")
