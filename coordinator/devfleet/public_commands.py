"""Runs ``edgeforge`` as whoever brings a model would type it, and shows what was typed.

The laptop's demonstration takes no other way into the registry than its users have.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.devfleet.processes import program
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from coordinator.devfleet.layout import FleetLayout

Report = Callable[[str], None]
#: An import of the small model takes seconds; a deploy waits for an engine's start at most.
TIMEOUT_S = 900.0
_MAX_SAID_CHARS = 2_000


class PublicCommands:
    """Runs commands against one fleet, as its operator."""

    def __init__(self, layout: FleetLayout, report: Report) -> None:
        self._layout = layout
        self._report = report

    def run(self, *arguments: str) -> None:
        """Show one command, run it and show the first line that it printed.

        Raises: EdgeForgeError with what the command said when it failed.
        """
        self._report(f"$ edgeforge {self._shown(arguments)}")
        lines = self._output_of(arguments).splitlines()
        if lines:
            self._report(f"  {lines[0]}")

    def names(self, group: str) -> set[str]:
        """Return the names that ``edgeforge GROUP ls`` lists. Raises: EdgeForgeError."""
        printed = self._output_of((group, "ls", "--json"))
        try:
            # What a deployment is stands beside its state.
            return {str(one.get("deployment", one)["name"]) for one in json.loads(printed)}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EdgeForgeError(f"edgeforge {group} ls printed no list of names") from error

    def _output_of(self, arguments: tuple[str, ...]) -> str:
        what = f"edgeforge {' '.join(arguments[:2])}"
        profile = ("--profile", str(self._layout.profile))
        try:
            done = subprocess.run(
                [program("edgeforge"), *profile, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EdgeForgeError(f"{what} has not ended in {TIMEOUT_S:.0f} s") from error
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()[-_MAX_SAID_CHARS:]
            raise EdgeForgeError(f"{what} failed: {said}")
        return done.stdout

    def _shown(self, arguments: tuple[str, ...]) -> str:
        """Return the command with the fleet's folder as it is named beside the user."""
        root, name = str(self._layout.root), self._layout.root.name
        return shlex.join(
            name + one.removeprefix(root) if one.startswith(root + "/") else one
            for one in arguments
        )
