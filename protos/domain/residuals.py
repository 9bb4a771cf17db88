"""The quantile of what a centre leaves over: a window of residuals, corrected until it is true.

Split conformal prediction on a sliding window, and on top of it an adaptive correction, since
outcomes come in bursts and are not exchangeable.
Source: Vovk et al., "Algorithmic Learning in a Random World"; Gibbs and Candes, "Adaptive
Conformal Inference Under Distribution Shift", NeurIPS 2021.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, insort
from collections import deque

#: Residuals remembered.
WINDOW = 512
#: Of fewer, the newer half: the first ones were judged by a centre that had just begun to learn.
_LEAST_WINDOW = 64
#: The share of outcomes that a P99 is to hold for. A little over 99 %: a window lags behind drift.
LEVEL = 0.9925
#: With fewer residuals than this the largest underestimates the tail, and is stretched.
ENOUGH = 128
#: What each miss adds to the logarithm of the quantile; each hit takes its 1/132 back.
MISS_STEP = 0.03
_HIT_SHARE = (1.0 - LEVEL) / LEVEL
#: Bounds of the correction, in misses: one burst must not frighten for hours. Down it may go
#: further: one residual of a crowd that was not understood may be the largest for days.
_MOST_STEPS, _LEAST_STEPS = 16.0, -40.0
#: A lone outlier among few is an exception: it counts as at most so much.
_FEW_MOST = 24.0
#: How much longer the tail may be than the largest of very few residuals.
STRETCH = 0.5


class ResidualWindow:
    """Scaled residuals of one regime, and their upper quantile. Bounded by ``WINDOW``."""

    __slots__ = (
        "_correction",
        "_least_left_out",
        "_ordered",
        "_recent",
        "_remembered",
        "_stretch",
        "misses",
        "seen",
        "start_quantile",
    )

    def __init__(
        self, start_quantile: float, stretch: float = STRETCH, least_left_out: int = ENOUGH
    ) -> None:
        #: What the largest of few residuals is stretched by, and from how many on it is left out.
        self._stretch, self._least_left_out = stretch, least_left_out
        #: The quantile before the first residual.
        self.start_quantile = start_quantile
        self.seen = 0
        self.misses = 0
        self._recent: deque[tuple[float, float]] = deque()
        self._remembered = 0
        self._ordered = array("d")
        self._correction = 0.0

    def __len__(self) -> int:
        return len(self._ordered)

    def rank(self, residual: float) -> float:
        """Return the share of remembered residuals under ``residual``; 0.5 when there are none."""
        count = len(self._ordered)
        return bisect_left(self._ordered, residual) / count if count else 0.5

    def quantile(self, level: float = LEVEL) -> float:
        """Return the corrected quantile, not below 0: a P99 under the centre would be none."""
        return max(0.0, self._raw(level)) * math.exp(MISS_STEP * self._correction)

    def _raw(self, level: float = LEVEL) -> float:
        count = len(self._ordered)
        place = math.ceil((count + 1) * level) - 1
        if not count:
            return self.start_quantile
        if count >= ENOUGH:
            return self._ordered[min(count - 1, place)]
        return self._few(level, min(count - 1, place))

    def _few(self, level: float, place: int) -> float:
        count = len(self._ordered)
        doubt = 1.0 - count / ENOUGH
        if level < LEVEL:
            return self._ordered[place]
        if count >= self._least_left_out:
            place = count - 2
        seen = min(_FEW_MOST, self._ordered[place]) * (1.0 + self._stretch * doubt)
        return max(seen, doubt * self.start_quantile)

    def push(
        self, residual: float, at_mono_ms: float, *, missed: bool, remember: bool = True
    ) -> None:
        """Add ``residual``; ``missed``: whether it lay above the promise.

        Without ``remember`` it counts for the correction only.
        """
        self.seen += 1
        self.misses += missed
        step = 1.0 if missed else -_HIT_SHARE
        self._correction = min(_MOST_STEPS, max(_LEAST_STEPS, self._correction + step))
        if not remember:
            return
        self._remembered += 1
        before = self._raw() if self._correction < 0.0 else 0.0
        self._recent.append((at_mono_ms, residual))
        insort(self._ordered, residual)
        if len(self._recent) > min(WINDOW, max(_LEAST_WINDOW, self._remembered // 2)):
            del self._ordered[bisect_left(self._ordered, self._recent.popleft()[1])]
        if before > 0.0:
            self._release(before)

    def _release(self, before: float) -> None:
        """Take back so much of a correction as the residual did that has just been forgotten.

        What had to be lowered because of one that was too large must not be lowered without it.
        """
        raw = self._raw()
        if 0.0 < raw < before:
            self._correction = min(0.0, self._correction + math.log(before / raw) / MISS_STEP)

    def forget_since(self, mono_ms: float) -> None:
        """Take back what came at ``mono_ms`` or later: the target had changed by then."""
        while self._recent and self._recent[-1][0] >= mono_ms:
            del self._ordered[bisect_left(self._ordered, self._recent.pop()[1])]
        self._correction = 0.0
