"""How full an engine is: tokens per second over its known capacity. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from agent.core.samples import Sample, Samples

if TYPE_CHECKING:
    from protos.domain.pricing import Usage

#: Time constant of the moving average: a token of a minute ago counts 1/e of a new one.
RATE_WINDOW_MS = 60_000.0
#: Tokens that arrive within this time are counted as simultaneous.
_STEP_MS = 10.0
#: Fills that peers report are limited to this.
MAX_FILL = 10.0
#: Assumed fill of a node that has not reported it: full.
UNKNOWN_FILL = 1.0


class FillMeter:
    """One engine's tokens per second as a one-minute moving average, over its capacity.

    The capacity is the calibrated one of the configuration, or the highest measured rate if that is
    more.
    """

    def __init__(self, capacity_tokens_per_s: float) -> None:
        self._capacity_tokens_per_s = capacity_tokens_per_s
        self._rate_tokens_per_s = 0.0
        self._at_mono_ms = -math.inf
        #: When the engine's latest token came, which shows that it makes progress.
        self.counted_mono_ms = -math.inf

    def count(self, tokens: int, now_mono_ms: float) -> None:
        """Count ``tokens`` that have just been generated. Hot: called for each read of a stream."""
        if tokens > 0:
            self.counted_mono_ms = now_mono_ms
        if now_mono_ms - self._at_mono_ms >= _STEP_MS:
            self._decay(now_mono_ms)
        self._rate_tokens_per_s += tokens * 1_000.0 / RATE_WINDOW_MS
        self._capacity_tokens_per_s = max(self._capacity_tokens_per_s, self._rate_tokens_per_s)

    def tokens_per_s(self, now_mono_ms: float) -> float:
        """Return the rate of the last minute."""
        self._decay(now_mono_ms)
        return self._rate_tokens_per_s

    def fill_ratio(self, now_mono_ms: float) -> float:
        """Return the share of the capacity in use: 0 idle, 1 full."""
        return self.tokens_per_s(now_mono_ms) / self._capacity_tokens_per_s

    def samples(self, now_mono_ms: float) -> Samples:
        """Yield the engine's fill."""
        yield Sample(
            "edgeforge_engine_fill_ratio",
            "Tokens per second of the last minute over the engine's capacity.",
            self.fill_ratio(now_mono_ms),
        )

    def status(self, now_mono_ms: float) -> dict[str, object]:
        """Return the engine's fill."""
        return {"engine": {"fill_ratio": self.fill_ratio(now_mono_ms)}}

    def _decay(self, now_mono_ms: float) -> None:
        passed_ms = now_mono_ms - self._at_mono_ms
        if passed_ms > 0.0:
            self._rate_tokens_per_s *= math.exp(-passed_ms / RATE_WINDOW_MS)
            self._at_mono_ms = now_mono_ms


def filling_tokens(usage: Usage, *, embeds: bool) -> int:
    """Return the tokens of a whole answer that count for its engine's fill: the generated ones.

    An embedding engine generates none, so its prompt tokens count.
    """
    return usage.prompt_tokens if embeds else usage.completion_tokens


def parse_fill_ratio(value: object) -> float | None:
    """Return the fill that a peer reported, at most ``MAX_FILL``; None if it is not valid."""
    try:
        fill = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return min(fill, MAX_FILL) if fill >= 0.0 else None
