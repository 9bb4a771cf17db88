"""Shared by all commands: the profile option, --json, and the client for the profile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.client import AdminClient, connected
from coordinator.cli.profiles import find_profile, load_profile
from coordinator.cli.renewal import Renewal
from protos.output.command_line import command_group

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

#: Set by the callback of the main command, before any command runs.
_named_profile: list[Path | None] = [None]


def name_profile(path: Path | None) -> None:
    """Remember the profile that was named on the command line."""
    _named_profile[0] = path


@contextmanager
def admin() -> Iterator[AdminClient]:
    """Provide a client of the coordinator that the profile names."""
    path = find_profile(_named_profile[0], os.environ, Path.home())
    with connected(load_profile(path)) as client:
        renewal = Renewal.begin(client)
        try:
            yield client
        finally:
            if renewal is not None:
                renewal.finish()


def group(name: str, text: str) -> typer.Typer:
    """Return the command group of one kind of resource."""
    return command_group(name, text)
