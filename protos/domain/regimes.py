"""How one target behaves while nobody waits there, or while somebody does.

A regime is a centre, a scale (errors grow with what is estimated) and one residual quantile on the
total. All three are linear in the same features, so the P99 is one more set of coefficients and a
prediction costs one product of vectors.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from protos.domain.regression import Regression
from protos.domain.residuals import LEVEL, ResidualWindow

#: What each coefficient multiplies. Tokens in thousands keep the numbers of one size.
FEATURES = ("engine", "prefill", "batch", "backlog", "queue")
TOKENS_UNIT = 1_000.0
#: What a request usually meets: an anchor weighs on each coefficient by it.
TYPICAL = (1.0, 1.0, 4.0, 1.0, 1.0)
#: Before anything was seen a target is thought to vary by this share of its centre ...
_START_SCALE = 0.12
#: ... and its P99 to lie so many scales above.
_START_QUANTILE = 4.0
#: Errors beyond so many scales say "an exception", not "a new centre".
_HUBER_SCALES = 3.0
#: A first token takes at least this long to learn from: it keeps weights finite.
LEAST_MS = 0.5
#: P95 for second copies of a request.
_P95 = 0.95


class Place(enum.IntEnum):
    """Who is ahead of a request: nobody, prompts not taken in yet, or requests without a place."""

    FREE = 0
    BEHIND = 1
    FULL = 2


class Load(NamedTuple):
    """What a request meets at its target, as the asking agent knows it.

    ``prompt_tokens`` are those not cached there. ``in_flight`` requests are being served,
    ``backlog_tokens`` of prompts that this agent sent have no first token yet, ``waiting``
    requests are ahead in line for a place. ``progress_ms``: since the backlog last moved.
    """

    prompt_tokens: float
    in_flight: float = 0.0
    backlog_tokens: float = 0.0
    waiting: float = 0.0
    progress_ms: float = 0.0

    def features(self) -> tuple[float, ...]:
        """Return what ``FEATURES`` names."""
        return (
            1.0,
            self.prompt_tokens / TOKENS_UNIT,
            self.in_flight,
            self.backlog_tokens / TOKENS_UNIT,
            self.waiting,
        )

    @property
    def head_start_ms(self) -> float:
        """What of the backlog's time has passed already."""
        return 0.0 if self.waiting > 0.0 else self.progress_ms

    @property
    def place(self) -> Place:
        """Who is ahead of this request."""
        if self.waiting > 0.0:
            return Place.FULL
        return Place.BEHIND if self.backlog_tokens > 0.0 else Place.FREE


class Regime:
    """One regime of one (node, model)."""

    __slots__ = ("_centre", "_scale", "p50", "p95", "p99", "residuals")

    def __init__(self, prior: Sequence[float], memory_observations: float) -> None:
        self._centre = Regression(prior, TYPICAL, memory_observations)
        scale = [each * _START_SCALE for each in prior]
        self._scale = Regression(scale, TYPICAL, memory_observations)
        self.residuals = ResidualWindow(_START_QUANTILE)
        #: Coefficients of the median, P95 and P99; replaced whole.
        self.p50: tuple[float, ...] = ()
        self.p95: tuple[float, ...] = ()
        self.p99: tuple[float, ...] = ()
        self._refresh()

    def learn(
        self, features: Sequence[float], outcome_ms: float, *, remember: bool
    ) -> tuple[float, float]:
        """Take in one outcome; return its rank among residuals and its ratio to the centre."""
        centre_ms = max(LEAST_MS, self._centre.estimate(features))
        scale_ms = max(0.02 * centre_ms, self._scale.estimate(features))
        residual = (outcome_ms - centre_ms) / scale_ms
        rank = self.residuals.rank(residual)
        promised_ms = sum(a * b for a, b in zip(self.p99, features, strict=True))
        self.residuals.push(residual, missed=outcome_ms > promised_ms, remember=remember)
        bound_ms = _HUBER_SCALES * scale_ms
        error_ms = min(bound_ms, max(-bound_ms, outcome_ms - centre_ms))
        self._centre.learn(features, centre_ms + error_ms, centre_ms)
        self._scale.learn(features, abs(error_ms), scale_ms)
        self._refresh()
        return rank, max(LEAST_MS, outcome_ms) / centre_ms

    def rescale(self, factor: float, keep: float, forget: int) -> None:
        """The target takes ``factor`` times as long now; its last ``forget`` residuals lied."""
        self._centre.rescale(factor, keep)
        self._scale.rescale(factor, keep)
        self.residuals.forget_newest(forget)
        self._refresh()

    def _refresh(self) -> None:
        centre, scale = self._centre.coefficients, self._scale.coefficients
        p99 = self.residuals.quantile(LEVEL)
        p95 = min(p99, self.residuals.quantile(_P95))
        self.p50 = tuple(centre)
        self.p95 = tuple(c + p95 * s for c, s in zip(centre, scale, strict=True))
        self.p99 = tuple(c + p99 * s for c, s in zip(centre, scale, strict=True))
