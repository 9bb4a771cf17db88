"""Prompts on their way into one engine: sent by this agent, no first token yet. Pure."""

from __future__ import annotations

import math
from itertools import islice


class Backlog:
    """What one target has still to take in of ours.

    As long as the requests in flight there: whoever adds a prompt takes it off again.
    """

    __slots__ = ("_last_first_mono_ms", "_next_key", "_sent", "tokens")

    def __init__(self) -> None:
        #: key -> tokens, monotonic ms when it was sent; oldest first.
        self._sent: dict[int, tuple[float, float]] = {}
        self._next_key = 1
        self._last_first_mono_ms = -math.inf
        #: Tokens of all prompts in it.
        self.tokens = 0.0

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, tokens: float, now_mono_ms: float) -> int:
        """A prompt of ``tokens`` is sent; return the key to take it off by, which is never 0."""
        key = self._next_key
        self._next_key = key + 1
        self._sent[key] = (tokens, now_mono_ms)
        self.tokens += tokens
        return key

    def first_token(self, key: int, now_mono_ms: float) -> None:
        """The prompt of ``key`` was taken in: its first token is here."""
        if self.take_off(key):
            self._last_first_mono_ms = now_mono_ms

    def take_off(self, key: int) -> bool:
        """The prompt of ``key`` no longer waits; False when it did not any more."""
        sent = self._sent.pop(key, None)
        if sent is None:
            return False
        # rounding must not leave a backlog behind where nobody waits
        self.tokens = max(0.0, self.tokens - sent[0]) if self._sent else 0.0
        return True

    def progress_ms(self, now_mono_ms: float) -> float:
        """Return how long ago it last moved; 0 when it is empty.

        It moved with a first token, or with the sending of the prompt that is next.
        """
        if not self._sent:
            return 0.0
        oldest_mono_ms = next(islice(self._sent.values(), 1))[1]
        return max(0.0, now_mono_ms - max(self._last_first_mono_ms, oldest_mono_ms))
