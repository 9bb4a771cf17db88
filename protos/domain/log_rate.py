"""Which lines of a log are written when a stranger can cause any number of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: Lines of one kind in a minute.
MAX_LINES = 5
_WINDOW_MS = 60_000.0
#: Kinds that are told apart; further ones share one.
_MAX_KINDS = 64


@dataclass(slots=True)
class _Kind:
    began_mono_ms: float
    written: int = 0
    left_out: int = 0


class LogRate:
    """Counts lines by kind. A kind is a word of ours, never of a stranger's."""

    def __init__(self, max_lines: int = MAX_LINES) -> None:
        self._max_lines = max_lines
        self._kinds: dict[str, _Kind] = {}

    def take(self, kind: str, now_mono_ms: float) -> int | None:
        """Return how many lines of this kind were left out before this one; None: leave it out."""
        if kind not in self._kinds and len(self._kinds) >= _MAX_KINDS:
            kind = "other"
        counted = self._kinds.setdefault(kind, _Kind(now_mono_ms))
        if now_mono_ms - counted.began_mono_ms >= _WINDOW_MS:
            counted.began_mono_ms, counted.written = now_mono_ms, 0
        if counted.written >= self._max_lines:
            counted.left_out += 1
            return None
        counted.written += 1
        left_out, counted.left_out = counted.left_out, 0
        return left_out
