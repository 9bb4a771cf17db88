"""How one target behaves in one regime: without a queue, behind prompts, or with requests waiting.

A regime is a centre, a scale (errors grow with what is estimated) and a tail above them, one on the
total. All three are linear in the same features, so the P99 is one more set of coefficients and a
prediction costs one product of vectors.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

from protos.domain.regression import Regression
from protos.domain.tails import Lines, Tails

#: What each coefficient multiplies. Tokens in thousands keep the numbers of one size.
FEATURES = ("engine", "prefill", "batch", "backlog", "queue")
TOKENS_UNIT = 1_000.0
#: What a request usually meets: an anchor weighs on each coefficient by it.
_TYPICAL_BATCH = 4.0
TYPICAL = (1.0, 1.0, _TYPICAL_BATCH, 1.0, 1.0)
#: An outcome so many outcomes ago counts for 1/e of one now.
MEMORY_OBSERVATIONS = 600.0
#: Before anything was seen a target is thought to vary by this share of its centre.
_START_SCALE = 0.12
#: Errors beyond so many scales count as exceptions, which move the centre less.
_HUBER_SCALES = 3.0
#: A first token takes at least this long to learn from: it keeps weights finite.
LEAST_MS = 0.5
#: A scale is at least this share of its centre: no target is steadier.
LEAST_SCALE, _LEAST_SCALE_MS = 0.05, 0.01
#: Moments of which a regime knows what it knew then, and how many of them a wait is long.
_MOMENTS, _MOMENTS_A_WAIT = 64, 32.0
#: A regime that no outcome visits may be moved by what others have seen to at most so many times
#: what it was, and to no less than this share of it.
MOST_MOVED, LEAST_MOVED = 2.0, 0.8
#: Moves smaller than this wait for more.
_LEAST_MOVE = 1.1
#: Smallest change of a lighter regime's estimate, as a share, that is taken over.
_LEAST_EXPECTED = 0.02
#: Evidence that a regime keeps when an outcome comes again after it was moved.
_KEPT_AFTER_MOVE = 0.3
#: Outcomes from which errors of a regime are those of a regime that was learned.
_LEAST_LEARNED = 16


class Place(enum.IntEnum):
    """Who is ahead of a request: nobody, prompts not taken in yet, or requests without a place."""

    FREE = 0
    BEHIND = 1
    FULL = 2


def place_of(backlog_tokens: float, waiting: float) -> Place:
    """Return who is ahead, by prompts not taken in yet and requests in line. Hot."""
    if waiting > 0.0:
        return Place.FULL
    return Place.BEHIND if backlog_tokens > 0.0 else Place.FREE


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
        return place_of(self.backlog_tokens, self.waiting)


class _Known(NamedTuple):
    """What was known of a regime at a moment."""

    at_mono_ms: float
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    lines: Lines
    #: Outcomes it was learned from.
    outcomes: int

    def at(self, features: Sequence[float]) -> tuple[float, float]:
        """Return centre and scale, milliseconds."""
        return max(LEAST_MS, _dot(self.centre, features)), max(
            _LEAST_SCALE_MS, _dot(self.scale, features)
        )


#: Coefficients of median, P95 and P99 as they were at one moment: of a free engine, then of each
#: heavier regime up to the one that is predicted.
Evidence = tuple[tuple[float, ...], ...]


class Vote(NamedTuple):
    """The evidence of one outcome about the target's speed."""

    sent_mono_ms: float
    at_mono_ms: float
    #: Among the residuals of its regime.
    rank: float
    #: To the centre.
    ratio: float
    place: Place


class Regime:
    """One regime of one (node, model)."""

    __slots__ = (
        "_centre",
        "_expected",
        "_least_scale",
        "_moved",
        "_now",
        "_past",
        "_place",
        "_scale",
        "_tails",
        "_waits",
        "quantiles",
        "residuals",
    )

    def __init__(
        self,
        prior: Sequence[float],
        memory_observations: float = MEMORY_OBSERVATIONS,
        least_scale: float = LEAST_SCALE,
        *,
        place: Place = Place.FREE,
    ) -> None:
        self._place = place
        #: It estimates waits for a place: errors grow with them, and the first are no evidence.
        self._waits = waits = place is Place.FULL
        self._least_scale = least_scale
        #: What was seen elsewhere since the last outcome here, as a factor on everything.
        self._moved = 1.0
        self._centre = Regression(prior, TYPICAL, memory_observations)
        scale = [each * _START_SCALE for each in prior]
        self._scale = Regression(scale, TYPICAL, MEMORY_OBSERVATIONS)
        self._expected = (0.0,) * len(prior)
        self._tails = Tails(TYPICAL, waits=waits)
        #: Errors in scales: what ranks are taken among.
        self.residuals = self._tails.growing
        #: Coefficients of the median, P95 and P99; replaced whole: kept, they stay as they were.
        self.quantiles: tuple[tuple[float, ...], ...] = ()
        self._now = self._refresh(-math.inf)
        self._past = deque([self._now], maxlen=_MOMENTS)

    @property
    def p50(self) -> tuple[float, ...]:
        return self.quantiles[0]

    @property
    def p95(self) -> tuple[float, ...]:
        return self.quantiles[1]

    @property
    def p99(self) -> tuple[float, ...]:
        return self.quantiles[2]

    def learn(
        self,
        features: Sequence[float],
        outcome_ms: float,
        sent_mono_ms: float,
        at_mono_ms: float,
        *,
        remember: bool,
    ) -> Vote:
        """Take in one outcome; without ``remember`` it is left out of the quantile.

        A promise is judged by what was known when it was made: what came since then has made the
        centre better than the one that the request was promised by.
        """
        self._settle()
        then = self._known_at(sent_mono_ms)
        then_ms, then_scale_ms = then.at(features)
        centre_ms, scale_ms = self._now.at(features)
        rank = self.residuals.rank((outcome_ms - centre_ms) / scale_ms)
        # errors made before anything was learned are no evidence of later ones
        remember = remember and (not self._waits or then.outcomes >= _LEAST_LEARNED)
        self._tails.learn(
            features,
            outcome_ms - then_ms,
            then.lines,
            then_ms,
            then_scale_ms,
            at_mono_ms,
            remember=remember,
        )
        bound_ms = _HUBER_SCALES * scale_ms
        error_ms = min(bound_ms, max(-bound_ms, outcome_ms - centre_ms))
        self._centre.learn(features, centre_ms + error_ms, centre_ms)
        self._scale.learn(features, min(bound_ms, abs(outcome_ms - then_ms)), scale_ms)
        self._now = self._refresh(at_mono_ms)
        apart_ms = (at_mono_ms - sent_mono_ms) / _MOMENTS_A_WAIT
        if at_mono_ms - self._past[-1].at_mono_ms >= apart_ms:
            self._past.append(self._now)
        return Vote(sent_mono_ms, at_mono_ms, rank, outcome_ms / centre_ms, self._place)

    def learn_miss(
        self, features: Sequence[float], least_ms: float, sent_mono_ms: float, at_mono_ms: float
    ) -> Vote:
        """Learn only that an outcome was above its promise, and above ``least_ms``."""
        centre_ms, scale_ms = self._now.at(features)
        rank = self.residuals.rank((least_ms - centre_ms) / scale_ms)
        self._tails.miss(at_mono_ms)
        self._now = self._refresh(at_mono_ms)
        return Vote(sent_mono_ms, at_mono_ms, rank, least_ms / centre_ms, self._place)

    def centre_ms(self, features: Sequence[float]) -> float:
        """Return the median to expect."""
        return self._now.at(features)[0]

    def promised_ms(self, features: Sequence[float]) -> float:
        """Return the P99."""
        return _dot(self.p99, features)

    def expect(self, centre: Sequence[float]) -> None:
        """Where nothing was seen yet, be no sooner than ``centre``: a lighter regime's."""
        if self.residuals.seen:
            return
        for expected, each in zip(self._expected, centre, strict=True):
            if abs(each - expected) > _LEAST_EXPECTED * expected:
                break
        else:
            return
        self._expected = tuple(centre)
        self._centre.expect(centre)
        self._scale.expect([each * _START_SCALE for each in centre])
        self._forget_past()

    def rescale(self, factor: float, keep: float, since_mono_ms: float) -> None:
        """The target takes ``factor`` times as long; what came ``since_mono_ms`` was misjudged."""
        self._centre.rescale(factor, keep)
        self._scale.rescale(factor, keep)
        self._tails.forget_since(since_mono_ms)
        self._forget_past()

    def move(self, factor: float, at_mono_ms: float) -> None:
        """Scale everything here to ``factor`` times its value at the last outcome.

        It replaces the factor of an earlier call, and is bounded: however often it is called, a
        regime without outcomes stays near its last observed value.
        """
        factor = min(MOST_MOVED, max(LEAST_MOVED, factor))
        if 1.0 / _LEAST_MOVE < factor / self._moved < _LEAST_MOVE:
            return
        self._moved = factor
        self._now = self._refresh(at_mono_ms)
        self._past.append(self._now)

    def _settle(self) -> None:
        """An outcome comes: what others said becomes what it is learned from."""
        if self._moved == 1.0:
            return
        self._centre.rescale(self._moved, _KEPT_AFTER_MOVE)
        self._scale.rescale(self._moved, _KEPT_AFTER_MOVE)
        self._moved = 1.0

    @property
    def pace_ms(self) -> float:
        """What a typical request takes: what neighbours compare."""
        engine_ms, prompt_ms, batch_ms, backlog_ms, queue_ms = self.quantiles[0]
        return engine_ms + prompt_ms + _TYPICAL_BATCH * batch_ms + backlog_ms + queue_ms

    def _forget_past(self) -> None:
        self._now = self._refresh(-math.inf)
        self._past.clear()
        self._past.append(self._now)

    def _known_at(self, mono_ms: float) -> _Known:
        for known in reversed(self._past):
            if known.at_mono_ms <= mono_ms:
                return known
        return self._past[0]

    def _refresh(self, at_mono_ms: float) -> _Known:
        centre, least = tuple(self._centre.coefficients), self._least_scale
        scale = tuple(map(max, self._scale.coefficients, [least * each for each in centre]))
        moved = self._moved
        if moved != 1.0:
            centre = tuple([moved * each for each in centre])
            scale = tuple([moved * each for each in scale])
        lines = self._tails.above(centre, scale)
        self.quantiles = centre, lines.p95, lines.p99
        return _Known(at_mono_ms, centre, scale, lines, self.residuals.seen)


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(map(mul, a, b))
