"""How far above its centre the P99 of a regime lies, and which kind of tail the target has.

Some are late in proportion: half the prompt was not cached after all. Others by as much whatever
the load: a prompt of another agent was ahead. One kind fitted with the other's law promises far too
much to most requests, so both are kept true, and the one that promises less is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from protos.domain.residuals import ResidualWindow

#: Before anything was seen the P99 is thought to lie so many scales above the centre.
START_QUANTILE = 4.0
#: Waits are few, and one unforeseeable wait would be the largest of them for days: from so many on
#: the largest is left out, and the second largest is stretched by so much.
_WAITS_LEFT_OUT, _WAITS_STRETCH = 32, 0.3
#: What one request weighs in what is usual, and in the choice of a kind; a gain that is smaller
#: than this, in logarithms, leaves the choice as it is.
_USUAL_STEP, _GAIN_STEP, _LEAST_GAIN = 0.02, 0.01, 0.05
_LEAST_SCALE_MS = 0.01
#: P95 for second copies of a request.
_P95 = 0.95

Line = tuple[float, ...]


class Lines(NamedTuple):
    """Coefficients of the P95 and P99 in use, and of the P99 with either kind of tail."""

    p95: Line
    p99: Line
    p99_growing: Line
    p99_flat: Line
    #: What errors of a usual request are, whatever its load.
    flat_scale_ms: float


class Tails:
    """Both kinds of tail of one regime.

    ``waits``: of waits for a place, whose errors always grow with them.
    """

    __slots__ = ("_flat", "_gain", "_usual", "_waits", "flat_wins", "growing")

    def __init__(self, usual: Sequence[float], *, waits: bool) -> None:
        self._waits = waits
        #: Features of the requests seen.
        self._usual = list(usual)
        #: How much lower, in logarithms, the P99 of requests seen is with a flat tail.
        self._gain = 0.0
        self.flat_wins = False
        self.growing = _window(waits=waits)
        self._flat = _window(waits=waits)

    def learn(
        self,
        features: Sequence[float],
        error_ms: float,
        promised: Lines,
        centre_ms: float,
        scale_ms: float,
        at_mono_ms: float,
        *,
        remember: bool,
    ) -> None:
        """An outcome lay ``error_ms`` above its centre when ``promised`` was known."""
        growing_ms, flat_ms = (
            _dot(promised.p99_growing, features),
            _dot(promised.p99_flat, features),
        )
        missed = centre_ms + error_ms > growing_ms
        self.growing.push(error_ms / scale_ms, at_mono_ms, missed=missed, remember=remember)
        if self._waits:
            return
        missed = centre_ms + error_ms > flat_ms
        residual = error_ms / promised.flat_scale_ms
        self._flat.push(residual, at_mono_ms, missed=missed, remember=remember)
        usual, step = self._usual, _USUAL_STEP
        for index, x in enumerate(features):
            usual[index] += step * (x - usual[index])
        self._gain += _GAIN_STEP * (math.log(max(1.0, growing_ms) / max(1.0, flat_ms)) - self._gain)
        if abs(self._gain) > _LEAST_GAIN:
            self.flat_wins = self._gain > 0.0

    def miss(self, at_mono_ms: float) -> None:
        """An outcome lay above its P99; by how much is not known."""
        self.growing.push(0.0, at_mono_ms, missed=True, remember=False)
        self._flat.push(0.0, at_mono_ms, missed=True, remember=False)

    def forget_since(self, mono_ms: float) -> None:
        """What came since ``mono_ms`` was misjudged: the target had changed by then."""
        self.growing.forget_since(mono_ms)
        self._flat.forget_since(mono_ms)

    def above(self, centre: Line, scale: Line) -> Lines:
        """Return the lines above ``centre``, whose errors are of the size of ``scale``."""
        quantile = self.growing.quantile()
        growing = _above(centre, quantile, scale)
        if self._waits:
            p95 = min(quantile, self.growing.quantile(_P95))
            return Lines(_above(centre, p95, scale), growing, growing, growing, _LEAST_SCALE_MS)
        flat_scale_ms = max(_LEAST_SCALE_MS, _dot(scale, self._usual))
        flat_quantile = self._flat.quantile()
        flat = (centre[0] + flat_quantile * flat_scale_ms, *centre[1:])
        if self.flat_wins:
            p95 = min(flat_quantile, self._flat.quantile(_P95))
            p95_line = (centre[0] + p95 * flat_scale_ms, *centre[1:])
            return Lines(p95_line, flat, growing, flat, flat_scale_ms)
        p95 = min(quantile, self.growing.quantile(_P95))
        return Lines(_above(centre, p95, scale), growing, growing, flat, flat_scale_ms)


def _window(*, waits: bool) -> ResidualWindow:
    if waits:
        return ResidualWindow(
            START_QUANTILE, stretch=_WAITS_STRETCH, least_left_out=_WAITS_LEFT_OUT
        )
    return ResidualWindow(START_QUANTILE)


def _above(centre: Line, quantile: float, scale: Line) -> Line:
    return tuple([c + quantile * s for c, s in zip(centre, scale, strict=True)])


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    total = 0.0
    for x, y in zip(a, b, strict=True):
        total += x * y
    return total
