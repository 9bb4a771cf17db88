"""The ``--version`` option that every command line of ours takes."""

from __future__ import annotations

import typer

from protos.build_info import build_info
from protos.output.terminal import print_line


def version_option(program: str) -> object:
    """Return the option, for ``Annotated``: print version and build of ``program``, then exit."""

    def print_version(asked: bool) -> None:
        if asked:
            print_line(f"{program} {build_info()}")
            raise typer.Exit

    return typer.Option(
        "--version", is_eager=True, callback=print_version, help="Print the version and build."
    )
