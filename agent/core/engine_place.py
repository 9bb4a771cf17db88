"""One request at an engine: what it asks, and its place from its arrival to its end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from protos.domain.resources import SlaTier

#: What an account's place in line is worth, by the service level of the request.
WEIGHTS = {SlaTier.REALTIME: 4.0, SlaTier.INTERACTIVE: 2.0, SlaTier.STANDARD: 1.0}


@dataclass(slots=True)
class Work:
    """What one request asks of an engine. Written once; not frozen because it is hot.

    ``prompt_tokens`` is of all its prompts; ``max_tokens`` of each answer, 0 where the engine
    computes no answer.
    """

    account: str
    sla_tier: SlaTier = SlaTier.STANDARD
    sequences: int = 1
    prompt_tokens: float = 0.0
    max_tokens: float = math.inf
    body_bytes: int = 0


class Place:
    """One request at the engine, from its arrival to its end."""

    __slots__ = (
        "charged_tokens",
        "entered_mono_ms",
        "from_reserve",
        "left",
        "on_decided",
        "retry_after_s",
        "served_mono_ms",
        "work",
    )

    def __init__(self, work: Work, entered_mono_ms: float) -> None:
        self.work = work
        self.entered_mono_ms = entered_mono_ms
        #: When it was given to the engine; None while it waits.
        self.served_mono_ms: float | None = None
        #: Set when it is refused: after how long its account may try again.
        self.retry_after_s: float | None = None
        self.left = False
        #: Whether it was served although no place was free.
        self.from_reserve = False
        #: The work that its account was charged.
        self.charged_tokens = 0.0
        #: Called once when a request that waited is served or refused; set by its owner.
        self.on_decided: Callable[[Place, float], None] | None = None

    @property
    def waits(self) -> bool:
        """Whether it is not decided yet."""
        return self.served_mono_ms is None and self.retry_after_s is None

    def queue_ms(self, first_token_mono_ms: float) -> float:
        """Return how long it waited, given when its first token came."""
        served = self.served_mono_ms
        if served is None or served > first_token_mono_ms:
            return 0.0
        return served - self.entered_mono_ms
