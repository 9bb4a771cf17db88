"""``edgeforge context``: the fleets that this machine is logged in to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from coordinator import clock
from coordinator.cli import completion
from coordinator.cli.common import JsonOption, group
from coordinator.cli.profiles import LOCAL, Contexts, load_profile
from coordinator.cli.validity import validity_of
from protos.domain.errors import ConfigInvalid
from protos.output.terminal import print_json, print_line, print_progress, print_table

app = group("context", "The fleets that this machine is logged in to.")

ContextArgument = Annotated[str, typer.Argument(autocompletion=completion.contexts)]


@app.command("ls")
def list_contexts(json_output: JsonOption = False) -> None:
    """List the contexts, and which one commands use.

    Example: edgeforge context ls
    """
    contexts = Contexts(Path.home())
    current = contexts.current()
    rows = [_row(contexts, name, current) for name in contexts.names()]
    if json_output:
        print_json(rows)
        return
    print_table(
        ("", "context", "coordinator", "certificate"),
        (
            (
                "*" if row["current"] else "",
                row["context"],
                row["admin_address"],
                _certificate(row["certificate_days"]),
            )
            for row in rows
        ),
        "no contexts; edgeforge login makes one",
    )
    _say_what_goes_first()


@app.command("use")
def use_context(name: ContextArgument, json_output: JsonOption = False) -> None:
    """Have commands ask the coordinator of a context.

    Example: edgeforge context use coordinator.example
    """
    Contexts(Path.home()).use(name)
    if json_output:
        print_json({"current": name})
        return
    print_line(f"commands use {name}")
    _say_what_goes_first()


@app.command("rm")
def remove_context(name: ContextArgument, json_output: JsonOption = False) -> None:
    """Delete a context with its key. The operator stays: an admin revokes it.

    Example: edgeforge context rm coordinator.example
    """
    Contexts(Path.home()).remove(name)
    if json_output:
        print_json({"removed": name})
        return
    print_line(f"removed {name}")


def _row(contexts: Contexts, name: str, current: str | None) -> dict[str, object]:
    row: dict[str, object] = {"context": name, "current": name == current}
    try:
        profile = load_profile(contexts.profile(name))
    except ConfigInvalid as error:
        return row | {"admin_address": f"damaged: {error.message}", "certificate_days": None}
    validity = validity_of(profile.cert_file)
    days = None if validity is None else validity.days_left(clock.now_unix_ms())
    return row | {"admin_address": profile.admin_address, "certificate_days": days}


def _certificate(days: object) -> str:
    if not isinstance(days, float):
        return "cannot be read"
    return f"{days:.0f} days left" if days > 0 else "expired"


def _say_what_goes_first() -> None:
    if os.environ.get("EDGEFORGE_PROFILE"):
        print_progress("note: EDGEFORGE_PROFILE is set and goes first")
    elif LOCAL.is_file():
        print_progress(f"note: {LOCAL} of this folder goes first")
