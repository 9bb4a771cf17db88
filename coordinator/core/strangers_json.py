"""JSON that a stranger wrote: not deeper than code that shows or compares it may go."""

from __future__ import annotations

from typing import Any, Final

import orjson

#: Configurations of models have fewer than 20 levels.
MAX_DEPTH: Final = 64


def parse(data: bytes) -> Any:  # noqa: ANN401 - JSON
    """Return what ``data`` says. Raises: orjson.JSONDecodeError, for what is too deep also."""
    content = orjson.loads(data)
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return content
    raise orjson.JSONDecodeError(f"more than {MAX_DEPTH} levels", "", 0)
