"""Delays before a retry."""

from __future__ import annotations

from dataclasses import dataclass

#: More doublings than any base needs to reach its cap; keeps the power finite.
_MAX_DOUBLINGS = 40


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """The ceiling starts at ``base_ms`` and doubles with every failure up to ``cap_ms``."""

    base_ms: float
    cap_ms: float

    def __post_init__(self) -> None:
        if not 0 < self.base_ms <= self.cap_ms:
            raise ValueError(f"0 < base_ms <= cap_ms does not hold: {self.base_ms}, {self.cap_ms}")


def full_jitter_ms(policy: BackoffPolicy, failures: int, draw: float) -> float:
    """Return the delay after ``failures`` failures in a row (1 is the first), ``draw`` in [0, 1].

    Uniform between zero and the ceiling, so that clients that failed together do not retry
    together. Source: M. Brooker, "Exponential Backoff And Jitter", 2015.
    """
    if failures < 1:
        return 0.0
    doublings = min(failures - 1, _MAX_DOUBLINGS)
    return draw * min(policy.cap_ms, policy.base_ms * 2.0**doublings)
