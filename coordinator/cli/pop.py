"""``edgeforge pop``: sites."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json, enum_word
from protos.domain.errors import InvalidRequest
from protos.domain.resources import Tier
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import admin_pb2, resources_pb2
from protos.wire import tier_to_wire

app = group("pop", "Sites: a tier, a residency zone, a place.")


@app.command("create")
def create_pop(
    pop: Annotated[str, typer.Argument(help="Its name, such as GRU.")],
    tier: Annotated[str, typer.Option(help="edge, regional or central.")],
    zone: Annotated[str, typer.Option(help="Residency zone, such as BR.")],
    latitude: Annotated[float, typer.Option(help="Degrees, north positive.")],
    longitude: Annotated[float, typer.Option(help="Degrees, east positive.")],
    city: Annotated[str, typer.Option(help="For people; empty: the POP's name.")] = "",
    json_output: JsonOption = False,
) -> None:
    """Create a site, or change it.

    Example: edgeforge pop create GRU --tier edge --zone BR --latitude=-23.43 --longitude=-46.47
    """
    try:
        wire_tier = tier_to_wire(Tier(tier))
    except ValueError:
        raise InvalidRequest(
            f"{tier!r} is no tier", "use edge, regional or central", param="tier"
        ) from None
    request = admin_pb2.CreatePopRequest(
        pop=resources_pb2.Pop(
            id=pop,
            tier=wire_tier,
            zone=zone,
            city=city or pop,
            latitude_deg=latitude,
            longitude_deg=longitude,
        )
    )
    with admin() as client:
        created = client.call(lambda stub: stub.CreatePop, request)
    if json_output:
        print_json(as_json(created))
    else:
        print_line(f"{created.id}: {tier}, zone {zone}")


@app.command("ls")
def list_pops(json_output: JsonOption = False) -> None:
    """List the sites.

    Example: edgeforge pop ls
    """
    with admin() as client:
        pops = client.call(lambda stub: stub.ListPops, admin_pb2.ListPopsRequest()).pops
    if json_output:
        print_json([as_json(pop) for pop in pops])
        return
    print_table(
        ("pop", "tier", "zone", "city", "latitude", "longitude"),
        (
            (
                pop.id,
                enum_word(resources_pb2.Tier.Name(pop.tier), "TIER_"),
                pop.zone,
                pop.city,
                pop.latitude_deg,
                pop.longitude_deg,
            )
            for pop in pops
        ),
        "no POPs yet; edgeforge pop create makes one",
    )
