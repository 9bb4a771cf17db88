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
        """Show one command and run it. Raises: EdgeForgeError with what it said when it failed."""
        self._report(f"$ edgeforge {self._shown(arguments)}")
        self._json_of(arguments)

    def names(self, group: str) -> set[str]:
        """Return the names that ``edgeforge GROUP ls`` lists. Raises: EdgeForgeError."""
        listed = self._json_of((group, "ls"))
        try:
            return {str(one["name"]) for one in listed}
        except (KeyError, TypeError) as error:
            raise EdgeForgeError(f"edgeforge {group} ls printed no list of names") from error

    def _json_of(self, arguments: tuple[str, ...]) -> list[dict[str, object]]:
        what = f"edgeforge {' '.join(arguments[:2])}"
        profile = ("--profile", str(self._layout.profile))
        try:
            done = subprocess.run(
                [program("edgeforge"), *profile, *arguments, "--json"],
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
        try:
            found: list[dict[str, object]] = json.loads(done.stdout)
        except ValueError as error:
            raise EdgeForgeError(f"{what} printed no JSON: {done.stdout[:200]!r}") from error
        return found

    def _shown(self, arguments: tuple[str, ...]) -> str:
        """Return the command with the fleet's folder as it is named beside the user."""
        root, name = str(self._layout.root), self._layout.root.name
        return shlex.join(
            name + one.removeprefix(root) if one.startswith(root + "/") else one
            for one in arguments
        )
