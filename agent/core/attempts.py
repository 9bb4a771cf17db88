"""What one attempt means for the next: replaced before the first byte, or final. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: A first token later than so many times its predicted P99 makes way for another target ...
LATE_FACTOR = 4.0
#: ... but never sooner than this: predictions of a few milliseconds are not worth a replacement.
LATE_AT_LEAST_MS = 2_000.0


@dataclass(frozen=True, slots=True)
class Trial:
    """How one attempt ended before its client saw anything of it."""

    answered: bool
    #: The engine itself said 5xx, rather than being out of reach.
    engine_error: bool
    reason: str

    @classmethod
    def failed(cls, reason: str) -> Trial:
        """The target did not answer at all."""
        return cls(answered=False, engine_error=False, reason=reason)


def verdict_of_status(status: int) -> Trial:
    """Return what a whole response of ``status`` means: 4xx is an answer, 5xx is not.

    503 is a refusal to serve just now; a stale generation (409, peers only) is placed again.
    """
    if status in (409, 503):
        return Trial(answered=False, engine_error=False, reason=f"refused with {status}")
    if status >= 500:
        return Trial(answered=False, engine_error=True, reason=f"engine answered {status}")
    return Trial(answered=True, engine_error=False, reason="")


def next_patience(
    *,
    stream: bool,
    last: bool,
    predicted_ttft_ms_p99: float,
    idle_ms: float,
    response_ms: float,
) -> tuple[float, float]:
    """Return how long an attempt may take to its first byte, and be silent afterwards.

    The last attempt is not cut off while it may still answer; nobody can see the first token of a
    request without a stream, so its deadline covers only the answer as a whole.
    """
    if not stream:
        return response_ms, response_ms
    if last:
        return idle_ms, idle_ms
    late_ms = max(LATE_AT_LEAST_MS, LATE_FACTOR * predicted_ttft_ms_p99)
    return min(late_ms, idle_ms), idle_ms
