"""Prompts on their way into one engine: sent by this agent, no first token yet. Pure."""

from __future__ import annotations

import math


class Backlog:
    """What one target has still to take in of ours.

    As long as the requests in flight there: whoever adds a prompt takes it off again.
    """

    __slots__ = ("_last_first_mono_ms", "_moved_mono_ms", "_next_key", "_sent", "tokens")

    def __init__(self) -> None:
        #: key -> tokens, monotonic ms when it was sent; oldest first.
        self._sent: dict[int, tuple[float, float]] = {}
        self._next_key = 1
        self._last_first_mono_ms = -math.inf
        self._moved_mono_ms = -math.inf
        #: Tokens of all prompts in it.
        self.tokens = 0.0

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, tokens: float, now_mono_ms: float) -> int:
        """A prompt of ``tokens`` is sent; return the key to take it off by, which is never 0."""
        key = self._next_key
        self._next_key = key + 1
        if not self._sent:
            self._moved_mono_ms = max(self._last_first_mono_ms, now_mono_ms)
        self._sent[key] = (tokens, now_mono_ms)
        self.tokens += tokens
        return key

    def first_token(self, key: int, now_mono_ms: float) -> None:
        """The prompt of ``key`` was taken in: its first token is here."""
        if key in self._sent:
            self._last_first_mono_ms = now_mono_ms
            self.take_off(key)

    def take_off(self, key: int) -> bool:
        """The prompt of ``key`` no longer waits; False when it did not any more."""
        sent = self._sent.pop(key, None)
        if sent is None:
            return False
        if self._sent:
            self.tokens = max(0.0, self.tokens - sent[0])
            oldest_mono_ms = next(iter(self._sent.values()))[1]
            self._moved_mono_ms = max(self._last_first_mono_ms, oldest_mono_ms)
        else:
            self.tokens = 0.0  # rounding must not leave a backlog behind where nobody waits
        return True

    def progress_ms(self, now_mono_ms: float) -> float:
        """Return how long ago it last moved; 0 when it is empty. Hot.

        It moved with a first token, or with the sending of the prompt that is next.
        """
        passed_ms = now_mono_ms - self._moved_mono_ms
        return passed_ms if self._sent and passed_ms > 0.0 else 0.0
