"""The steps of docs/OPERATIONS.md, as an operator carries them out.

A step is a fenced block whose info string names its host: ``sh host=gru-1`` is a list of commands,
``toml host=gru-1 file=/etc/edgeforge/agent.toml`` is a file to write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "OPERATIONS.md"

_BLOCK = re.compile(r"^```(\w+) (host=[^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Step:
    """One block; ``file`` is empty for commands."""

    host: str
    file: str
    text: str

    def commands(self) -> Iterator[str]:
        """Yield the commands, each with its continued lines, without comments."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                yield " ".join(line.split())


def steps_of(heading: str, text: str | None = None) -> list[Step]:
    """Return the steps under ``## heading``, in order."""
    guide = GUIDE.read_text(encoding="utf-8") if text is None else text
    sections = _HEADING.split(guide)
    (section,) = [one for one in sections if one.startswith(heading + "\n")]
    steps = []
    for _language, attributes, body in _BLOCK.findall(section):
        values = dict(word.split("=", 1) for word in attributes.split())
        steps.append(Step(values["host"], values.get("file", ""), body))
    return steps
