"""What every benchmark does with its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

FOLDER = Path(".bench")


def write_report(name: str, figures: Mapping[str, object]) -> None:
    """Write ``figures`` to ``.bench/name.json``."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of ``values``, at least one, lie below."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
