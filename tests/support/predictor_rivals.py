"""Simple rival predictors of first-token times, for comparison."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

_WINDOW = 256


class Guess(NamedTuple):
    """A median and a P99."""

    ttft_ms_p50: float
    ttft_ms_p99: float


class Rival(Protocol):
    """Predicts from prompt tokens, learns from outcomes."""

    def guess(self, tokens: float) -> Guess: ...

    def learn(self, tokens: float, took_ms: float) -> None: ...


class LastValue:
    """Predicts the last outcome."""

    def __init__(self) -> None:
        self._last_ms = 0.0

    def guess(self, tokens: float) -> Guess:
        return Guess(self._last_ms, self._last_ms)

    def learn(self, tokens: float, took_ms: float) -> None:
        self._last_ms = took_ms


class Ewma:
    """A moving mean, and its P99 under a normal distribution with the moving deviation."""

    def __init__(self) -> None:
        self._mean_ms = self._variance = 0.0

    def guess(self, tokens: float) -> Guess:
        return Guess(self._mean_ms, self._mean_ms + 2.326 * math.sqrt(self._variance))

    def learn(self, tokens: float, took_ms: float) -> None:
        error = took_ms - self._mean_ms
        self._mean_ms += 0.05 * error
        self._variance += 0.05 * (error * error - self._variance)


class _Window:
    def __init__(self) -> None:
        self._ring: deque[float] = deque()
        self._ordered: list[float] = []

    def push(self, value: float) -> None:
        if len(self._ring) == _WINDOW:
            del self._ordered[bisect_left(self._ordered, self._ring.popleft())]
        self._ring.append(value)
        insort(self._ordered, value)

    def quantile(self, level: float) -> float:
        count = len(self._ordered)
        return self._ordered[min(count - 1, math.ceil(level * count) - 1)] if count else 0.0


class SlidingP99:
    """The P99 of the last outcomes."""

    def __init__(self) -> None:
        self._window = _Window()

    def guess(self, tokens: float) -> Guess:
        return Guess(self._window.quantile(0.5), self._window.quantile(0.99))

    def learn(self, tokens: float, took_ms: float) -> None:
        self._window.push(took_ms)


class LinearInTokens:
    """A line through the last outcomes over prompt tokens, and the P99 of its residuals."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque(maxlen=_WINDOW)
        self._sums = [0.0] * 4
        self._rest = _Window()

    def guess(self, tokens: float) -> Guess:
        centre = self._centre(tokens)
        return Guess(centre + self._rest.quantile(0.5), centre + self._rest.quantile(0.99))

    def learn(self, tokens: float, took_ms: float) -> None:
        self._rest.push(took_ms - self._centre(tokens))
        if len(self._seen) == _WINDOW:
            self._add(*self._seen[0], -1.0)
        self._seen.append((tokens, took_ms))
        self._add(tokens, took_ms, 1.0)

    def _add(self, x: float, y: float, sign: float) -> None:
        for index, value in enumerate((x, y, x * x, x * y)):
            self._sums[index] += sign * value

    def _centre(self, tokens: float) -> float:
        count = len(self._seen)
        if not count:
            return 0.0
        x, y, xx, xy = self._sums
        spread = xx - x * x / count
        slope = (xy - x * y / count) / spread if spread > 1.0 else 0.0
        return y / count + slope * (tokens - x / count)


RIVALS: Mapping[str, Callable[[], Rival]] = {
    "last_value": LastValue,
    "ewma": Ewma,
    "sliding_p99": SlidingP99,
    "linear_in_tokens": LinearInTokens,
}
