"""The commands of docs/CUSTOMERS.md, carried out as written by a customer of a running fleet.

The names of the guide (``API``, ``efi-...``, ``efm-...``, ``ef-...``, the hosts of ``.example``)
are replaced by those of the fleet; nothing else is.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.registry_cases import Files

GUIDE = Path(__file__).parents[2] / "docs" / "CUSTOMERS.md"
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENT = " " * 4
_TIMEOUT_S = 90


def commands_of(heading: str) -> list[str]:
    """Return the commands under ``## heading``, each with its continued lines."""
    text = _PYTHON.sub("", _section(heading))
    lines = [line[4:] for line in text.splitlines() if line.startswith(_INDENT)]
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def python_of(heading: str) -> str:
    """Return the Python under ``## heading``."""
    (found,) = _PYTHON.findall(_section(heading))
    return str(found)


def _section(heading: str) -> str:
    sections = re.split(r"^## ", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (section,) = [one for one in sections if one.startswith(heading + "\n")]
    return section


class GuideWalk:
    """One customer with a shell. ``names`` are what the guide's names stand for."""

    def __init__(self, folder: Path, names: dict[str, str]) -> None:
        self.folder = folder
        self.names = names
        self._exports = ""

    def run(self, command: str) -> str:
        """Carry out one command, which must succeed, and return what it printed."""
        done = self.tried(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def tried(self, command: str) -> subprocess.CompletedProcess[str]:
        """Carry out one command and return what it left."""
        if command.startswith("export "):
            self._exports += self._named(command) + "\n"
        text = re.sub(r"^curl ", "curl --silent --show-error --fail-with-body ", command)
        path = f"{Path(sys.executable).parent}:{os.defpath}"
        return subprocess.run(
            ["/bin/bash", "-euc", self._exports + self._named(text)],
            cwd=self.folder,
            env={"PATH": path, "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )

    def section(self, heading: str, *, holding: str = "") -> list[Any]:
        """Carry out the commands of a section that hold a text; return what each printed."""
        return [_parsed(self.run(one)) for one in commands_of(heading) if holding in one]

    def python(self, heading: str) -> str:
        """Carry out the Python of a section and return what it printed."""
        (self.folder / "guide.py").write_text(self._named(python_of(heading)), encoding="utf-8")
        return self.run("python guide.py")

    def written(self, name: str, files: Files) -> None:
        """Write files into a folder beside the shell."""
        for path, data in files.items():
            (self.folder / name / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name / path).write_bytes(data)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask the API for what the guide has no command for."""
        return _parsed(self.run(_curl(method, path, body)))

    def refused(self, method: str, path: str, body: object = None) -> dict[str, str]:
        """Return the error of a request that is refused."""
        done = self.tried(_curl(method, path, body))
        assert done.returncode != 0, done.stdout
        return dict(json.loads(done.stdout)["error"])

    def _named(self, command: str) -> str:
        for name, value in self.names.items():
            command = command.replace(name, value)
        return command


def _curl(method: str, path: str, body: object) -> str:
    sent = (
        f" -H 'Content-Type: application/json' -d '{json.dumps(body)}'" if body is not None else ""
    )
    return f"""curl -X {method} 'API{path}' -H "$AUTH"{sent}"""


def _parsed(printed: str) -> Any:
    try:
        return json.loads(printed)
    except ValueError:
        return printed
