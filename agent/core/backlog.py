"""Prompts that this agent sent to one engine and that have no first token yet. Pure."""

from __future__ import annotations

import math


class Backlog:
    """This agent's prompts that one target has still to prefill.

    Bounded by the requests in flight there: each adds its prompt once and removes it at its end.
    """

    __slots__ = ("_last_first_mono_ms", "_moved_mono_ms", "_next_key", "_sent", "tokens")

    def __init__(self) -> None:
        #: key -> tokens, monotonic ms when it was sent; oldest first.
        self._sent: dict[int, tuple[float, float]] = {}
        self._next_key = 1
        self._last_first_mono_ms = -math.inf
        self._moved_mono_ms = -math.inf
        #: Tokens of all prompts in the backlog.
        self.tokens = 0.0

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, tokens: float, now_mono_ms: float) -> int:
        """Add a prompt of ``tokens`` that is sent now; return its key, which is never 0."""
        key = self._next_key
        self._next_key = key + 1
        if not self._sent:
            self._moved_mono_ms = max(self._last_first_mono_ms, now_mono_ms)
        self._sent[key] = (tokens, now_mono_ms)
        self.tokens += tokens
        return key

    def first_token(self, key: int, now_mono_ms: float) -> None:
        """Remove the prompt of ``key``, whose first token came."""
        if key in self._sent:
            self._last_first_mono_ms = now_mono_ms
            self.take_off(key)

    def take_off(self, key: int) -> bool:
        """Remove the prompt of ``key``; return False if it was removed before."""
        sent = self._sent.pop(key, None)
        if sent is None:
            return False
        if self._sent:
            self.tokens = max(0.0, self.tokens - sent[0])
            oldest_mono_ms = next(iter(self._sent.values()))[1]
            self._moved_mono_ms = max(self._last_first_mono_ms, oldest_mono_ms)
        else:
            self.tokens = 0.0  # no rounding error may remain in an empty backlog
        return True

    def progress_ms(self, now_mono_ms: float) -> float:
        """Return how long ago its last progress was; 0 when it is empty. Hot.

        Progress is a first token, or the sending of the prompt that is now the oldest.
        """
        passed_ms = now_mono_ms - self._moved_mono_ms
        return passed_ms if self._sent and passed_ms > 0.0 else 0.0
