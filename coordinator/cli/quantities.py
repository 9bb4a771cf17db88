"""Durations and shares as people write them: 80ms, 1.5s, 25%."""

from __future__ import annotations

import re

from protos.domain.errors import InvalidRequest

_DURATION = re.compile(r"(\d{1,7}(?:\.\d{1,3})?)\s?(ms|s|m|h)?", re.ASCII)
_LIFE = re.compile(r"(\d{1,7})\s?(s|m|h|d)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_PERCENT = re.compile(r"(\d{1,5})\s?%?", re.ASCII)
_MS = {"ms": 1.0, None: 1.0, "s": 1_000.0, "m": 60_000.0, "h": 3_600_000.0}


def duration_ms(text: str, param: str) -> int:
    """Return whole milliseconds of ``80ms``, ``1.5s``, ``2m``, ``1h``, or ``80``.

    At least one: a budget of nothing is a mistake. Raises: InvalidRequest.
    """
    found = _DURATION.fullmatch(text.strip())
    value_ms = round(float(found[1]) * _MS[found[2]]) if found else 0
    if value_ms < 1:
        raise InvalidRequest(f"{text[:40]!r} is no duration", "write 80ms, 1.5s or 2m", param=param)
    return value_ms


def life_s(text: str, param: str) -> int:
    """Return whole seconds of ``30s``, ``2h``, ``90d``; 0 is allowed. Raises: InvalidRequest."""
    found = _LIFE.fullmatch(text.strip())
    if found is None:
        raise InvalidRequest(f"{text[:40]!r} is no duration", "write 12h or 90d", param=param)
    return int(found[1]) * _SECONDS[found[2]]


def percent(text: str, param: str) -> int:
    """Return the number in ``25%`` or ``25``. Raises: InvalidRequest."""
    found = _PERCENT.fullmatch(text.strip())
    if found is None:
        raise InvalidRequest(f"{text[:40]!r} is no percentage", "write 25%", param=param)
    return int(found[1])
