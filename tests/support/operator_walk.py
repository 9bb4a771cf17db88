"""Carries out the steps of docs/OPERATIONS.md on booted hosts, as written.

What a host cannot have here is done for it: ``make dist`` runs on this machine, ``rsync`` and
``scp`` copy between the hosts' file systems, ``apt-get install`` checks that the packages are in
the root that was made of the guide, and the engine environment is this machine's.
"""

from __future__ import annotations

import shlex
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.debian_host import DebianHost, DebianNetwork
    from tests.support.operations_guide import Step

#: Commands that ask until something is so, at most this long each.
_TIMEOUT_S = 420.0


@dataclass
class OperatorWalk:
    """One operator's way; ``dist`` is what ``make dist`` made."""

    network: DebianNetwork
    dist: Path
    commands: int = 0
    files: int = 0
    #: What each command printed, by the command.
    printed: dict[str, str] = field(default_factory=dict)
    #: Seconds that each command took, in order.
    took_s: list[tuple[str, float]] = field(default_factory=list)

    def carry_out(self, step: Step) -> None:
        """Write the step's file, or run its commands one after another."""
        host = self.network.hosts[step.host]
        if step.file:
            self.files += 1
            path = host.root / step.file.lstrip("/")
            assert path.parent.is_dir(), f"nothing has made {path.parent} on {step.host}"
            path.write_text(step.text, encoding="utf-8")
            return
        for command in step.commands():
            began = time.monotonic()
            self.commands += 1
            self._run(host, command)
            self.took_s.append((command, time.monotonic() - began))

    def _run(self, host: DebianHost, command: str) -> None:
        words = shlex.split(command.partition(" > ")[0])
        if words[:2] == ["make", "dist"]:
            host.copy_in(self.dist, "/root/dist")
        elif words[0] in ("rsync", "scp"):
            source, target = words[-2:]
            self._copy(host, source, target)
        elif words[0] == "apt-get":
            for package in (word for word in words[2:] if not word.startswith("-")):
                host.run(f"dpkg-query -W {shlex.quote(package)}")
        elif words[0].endswith("/engine/install"):
            host.run("test -x /opt/edgeforge-engine/bin/python")
        elif words[0] == "export":
            host.prelude += command + "\n"
        else:
            self.printed[command] = host.run(command, timeout_s=_TIMEOUT_S).stdout

    def _copy(self, host: DebianHost, source: str, target: str) -> None:
        here, there = self._path(host, source), self._path(host, target)
        if here.is_dir():
            shutil.copytree(here, there, dirs_exist_ok=True, symlinks=True)
        else:
            shutil.copy(here, there)

    def _path(self, host: DebianHost, text: str) -> Path:
        name, colon, path = text.rpartition(":")
        owner = self.network.hosts[name] if colon else host
        return owner.root / "root" / path if not path.startswith("/") else owner.root / path[1:]
