"""Prompts that this agent sent to one engine and that have no first token yet. Pure."""

from __future__ import annotations

import math


class Backlog:
    """This agent's prompts that one target has still to prefill.

    Bounded by the requests in flight there: each adds its prompt once and removes it at its end.
    """

    __slots__ = (
        "_last_first_mono_ms",
        "_moved_mono_ms",
        "_next_key",
        "_of_account",
        "_sent",
        "tokens",
    )

    def __init__(self) -> None:
        #: key -> tokens, monotonic ms when it was sent, account; oldest first.
        self._sent: dict[int, tuple[float, float, str]] = {}
        #: Tokens by account.
        self._of_account: dict[str, float] = {}
        self._next_key = 1
        self._last_first_mono_ms = -math.inf
        self._moved_mono_ms = -math.inf
        #: Tokens of all prompts in the backlog.
        self.tokens = 0.0

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, tokens: float, now_mono_ms: float, account: str = "") -> int:
        """Add a prompt of ``tokens`` that is sent now; return its key, which is never 0."""
        key = self._next_key
        self._next_key = key + 1
        if not self._sent:
            self._moved_mono_ms = max(self._last_first_mono_ms, now_mono_ms)
        self._sent[key] = (tokens, now_mono_ms, account)
        self._of_account[account] = self._of_account.get(account, 0.0) + tokens
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
            account = sent[2]
            left = self._of_account.get(account, 0.0) - sent[0]
            if left > 0.0:
                self._of_account[account] = left
            else:
                self._of_account.pop(account, None)
            oldest_mono_ms = next(iter(self._sent.values()))[1]
            self._moved_mono_ms = max(self._last_first_mono_ms, oldest_mono_ms)
        else:
            self.tokens = 0.0  # no rounding error may remain in an empty backlog
            self._of_account.clear()
        return True

    def tokens_before(self, account: str, held_back: int) -> float:
        """Return the tokens that the engine has to prefill before a prompt of ``account``.

        ``held_back`` prompts wait there for a place: of those, only the account's own are ahead.
        """
        own = self._of_account.get(account, 0.0)
        given_ratio = max(0.0, 1.0 - held_back / len(self._sent)) if self._sent else 0.0
        return own + (self.tokens - own) * given_ratio

    def progress_ms(self, now_mono_ms: float) -> float:
        """Return how long ago its last progress was; 0 when it is empty. Hot.

        Progress is a first token, or the sending of the prompt that is now the oldest.
        """
        passed_ms = now_mono_ms - self._moved_mono_ms
        return passed_ms if self._sent and passed_ms > 0.0 else 0.0
