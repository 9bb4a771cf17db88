"""``edgeforge up``, ``demo`` and ``down``: a real fleet on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.client import connected
from coordinator.cli.common import JsonOption
from coordinator.cli.profiles import load_profile
from coordinator.devfleet.brought_weights import is_brought_to
from coordinator.devfleet.demonstration import demonstrate
from coordinator.devfleet.down import bring_down
from coordinator.devfleet.layout import FleetLayout, read_facts
from coordinator.devfleet.plan import FleetWish
from coordinator.devfleet.processes import running_pid
from coordinator.devfleet.sites import MAX_ENGINES, TWO_SITES
from coordinator.devfleet.up import UpOptions, bring_up, follow
from coordinator.devfleet.weights_demonstration import demonstrate_weights
from protos.domain.errors import NotFound
from protos.output.terminal import print_json, print_progress, print_text

StateDirOption = Annotated[
    Path,
    typer.Option("--state-dir", help="Everything the fleet keeps.", envvar="EDGEFORGE_DEV_DIR"),
]
_DEFAULT_STATE_DIR = Path(".edgeforge")


def up(
    detach: Annotated[bool, typer.Option("--detach", help="Leave it running.")] = False,
    engine_url: Annotated[
        list[str] | None,
        typer.Option(
            "--engine-url",
            help="Attach an OpenAI-compatible server that already runs; repeatable, one an agent.",
        ),
    ] = None,
    state_dir: StateDirOption = _DEFAULT_STATE_DIR,
    engine_venv: Annotated[
        Path, typer.Option(help="Environment that holds vLLM.", envvar="EDGEFORGE_ENGINE_VENV")
    ] = Path(".venv-engine"),
    engines: Annotated[
        int | None,
        typer.Option(help="vLLM engines to start: in IAD, GRU, DXB.", min=1, max=MAX_ENGINES),
    ] = None,
    sites: Annotated[
        int | None,
        typer.Option(help="5 sites at their distances, or 2 (IAD, GRU) side by side."),
    ] = None,
    edge_fill: Annotated[
        float | None,
        typer.Option(help="Prefer edge nodes filled to less; 0: by price alone.", min=0, max=1),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Start a fleet on this machine: a coordinator and five sites at their real distances.

    GRU (edge, BR), DXB (regional, AE) and IAD (central, US) get an engine each, BOM (edge, IN) and
    LAG (edge, NG) none; then four requests show what is placed where, and why, and a fine-tune
    and an adapter, made here, are imported, deployed and asked. On a running fleet it starts what
    fell, prints how to reach it, and leaves. With --engine-url no vLLM is started and no weights
    are brought, and without --sites 5 there are two sites and no distances: the first server goes
    to IAD, the second to GRU, each further one to a further node in IAD.

    Example: edgeforge up --detach --edge-fill 0.7
    """
    if sites not in (None, 2, 5):
        raise typer.BadParameter("2 or 5", param_hint="--sites")
    if engines is not None and (engine_url or (sites == 2 and engines > len(TWO_SITES))):
        raise typer.BadParameter("no place for so many", param_hint="--engines")
    options = UpOptions(
        layout=FleetLayout(state_dir.absolute()),
        wish=FleetWish(tuple(engine_url or ()), sites, engines, edge_fill),
        engine_venv=engine_venv.absolute(),
    )
    description = bring_up(options, print_progress)
    if json_output:
        print_json(description.as_json())
    else:
        print_text(description.how_to_talk())
    if description.is_new and not detach:
        follow(options.layout, print_progress)
    elif not description.is_new:
        # Whoever started it decides when it ends: this call does not stay, nor stop it.
        print_progress(f"the fleet ran before and goes on:\n{description.state()}")


def demo(state_dir: StateDirOption = _DEFAULT_STATE_DIR, json_output: JsonOption = False) -> None:
    """Send the requests again that 'edgeforge up' shows, and explain them.

    Example: edgeforge demo
    """
    layout = FleetLayout(state_dir.absolute())
    facts = read_facts(layout)
    if facts is None or not facts.has_distances or running_pid(layout, "coordinator") is None:
        raise NotFound("no fleet of five sites runs here", "start it first: edgeforge up --detach")
    api_key = layout.api_key.read_text(encoding="utf-8").strip()
    with connected(load_profile(layout.profile)) as client:
        report = print_progress if json_output else print_text
        told = [one.as_json() for one in demonstrate(client, facts, api_key, report)]
        if is_brought_to(facts):
            brought = demonstrate_weights(client, facts, api_key, report)
            told += [one.as_json() for one in brought]
    if json_output:
        print_json(told)


def down(
    state_dir: StateDirOption = _DEFAULT_STATE_DIR,
    purge: Annotated[bool, typer.Option("--purge", help="Also delete all it kept.")] = False,
) -> None:
    """Stop the fleet of this machine: agents first, then the coordinator; nothing is left running.

    Example: edgeforge down
    """
    bring_down(FleetLayout(state_dir.absolute()), print_progress, purge=purge)
