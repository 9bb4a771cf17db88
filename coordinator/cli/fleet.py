"""``edgeforge up``, ``down`` and ``status``: a real fleet on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.common import JsonOption
from coordinator.cli.output import print_json, tell
from coordinator.devfleet.down import bring_down
from coordinator.devfleet.layout import FleetLayout
from coordinator.devfleet.up import UpOptions, bring_up, follow

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
    json_output: JsonOption = False,
) -> None:
    """Start a fleet on this machine: a coordinator, IAD with an engine, GRU without.

    On a running fleet it prints how to reach it and changes nothing. With --engine-url no vLLM is
    started and no model fetched: the first server goes to IAD, the second to GRU, each further one
    to a further node in IAD.

    Example: edgeforge up --detach --engine-url http://127.0.0.1:8000
    """
    options = UpOptions(
        layout=FleetLayout(state_dir.absolute()),
        engine_urls=tuple(engine_url or ()),
        engine_venv=engine_venv.absolute(),
    )
    description = bring_up(options, tell)
    if json_output:
        print_json(description.as_json())
    else:
        print(description.how_to_talk())
    if not detach:
        follow(options.layout, tell)


def down(
    state_dir: StateDirOption = _DEFAULT_STATE_DIR,
    purge: Annotated[bool, typer.Option("--purge", help="Also delete all it kept.")] = False,
) -> None:
    """Stop the fleet of this machine: agents first, then the coordinator; nothing is left running.

    Example: edgeforge down
    """
    bring_down(FleetLayout(state_dir.absolute()), tell, purge=purge)
