"""Requests of a public trace: arrival, prompt and completion tokens, with bursts added.

The file is given by ``EDGEFORGE_TRACE`` or an option; the product never reads it.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

_SHARED = "shared/data/AzureLLMInferenceTrace_conv.csv"


@dataclass(frozen=True, slots=True)
class Line:
    """One request; the first one of a trace is at 0."""

    at_ms: float
    prompt_tokens: int
    completion_tokens: int


def trace_path() -> Path:
    """Return the file that the environment names, or the one beside the repository."""
    if named := os.environ.get("EDGEFORGE_TRACE"):
        return Path(named)
    beside = [parent / _SHARED for parent in Path(__file__).resolve().parents[3:]]
    return next((path for path in beside if path.exists()), beside[0])


def read_trace(path: Path, most: int | None = None) -> list[Line]:
    """Return the requests in the order of time. Raises: FileNotFoundError."""
    lines: list[Line] = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["TIMESTAMP"][:26])
            prompt, completion = int(row["ContextTokens"]), int(row["GeneratedTokens"])
            lines.append(Line(at.timestamp() * 1_000.0, max(1, prompt), max(1, completion)))
            if most is not None and len(lines) >= most:
                break
    lines.sort(key=lambda line: line.at_ms)
    began_ms = lines[0].at_ms if lines else 0.0
    return [Line(line.at_ms - began_ms, *_tokens(line)) for line in lines]


def with_bursts(
    lines: list[Line], *, every_ms: float, lasting_ms: float, factor: float
) -> list[Line]:
    """Return ``lines`` with a part of each ``every_ms`` compressed in time by ``factor``.

    The part lasts ``lasting_ms`` after compression, and a pause follows it, so that
    the trace's length stays.
    """
    warped = []
    for line in lines:
        round_, within_ms = divmod(line.at_ms, every_ms)
        if within_ms < factor * lasting_ms:
            within_ms /= factor
        else:
            rest = (within_ms - factor * lasting_ms) / (every_ms - factor * lasting_ms)
            within_ms = lasting_ms + rest * (every_ms - lasting_ms)
        warped.append(Line(round_ * every_ms + within_ms, *_tokens(line)))
    return warped


def _tokens(line: Line) -> tuple[int, int]:
    return line.prompt_tokens, line.completion_tokens
