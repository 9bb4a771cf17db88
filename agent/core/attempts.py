"""What one attempt means for the next: replaced before the first byte, or final. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: No first token is late sooner than this: predictions of a few milliseconds are not worth the
#: prefill that a replacement throws away.
LATE_AT_LEAST_MS = 100.0
#: While a prediction is a guess, so many times its P99 may pass, and never less than this.
GUESS_LATE_FACTOR = 4.0
GUESS_LATE_AT_LEAST_MS = 2_000.0


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


_ANSWERED = Trial(answered=True, engine_error=False, reason="")


def verdict_of_status(status: int) -> Trial:
    """Return what a whole response of ``status`` means: 4xx is an answer, 5xx is not.

    503 is a refusal to serve just now; a stale generation (409, peers only) is placed again.
    """
    if status < 409:
        return _ANSWERED
    if status in (409, 503):
        return Trial(answered=False, engine_error=False, reason=f"refused with {status}")
    if status >= 500:
        return Trial(answered=False, engine_error=True, reason=f"engine answered {status}")
    return _ANSWERED


@dataclass(slots=True)
class Expectation:
    """What was predicted of the target that is asked, and of the best other one. Written once.

    ``learned``: from outcomes, so that the P99 is one; otherwise from a profile.
    ``other_ttft_ms_p99`` is None when nobody else could be asked.
    """

    ttft_ms_p50: float
    ttft_ms_p99: float
    learned: bool
    budget_left_ms: float
    other_ttft_ms_p99: float | None


def next_patience(
    expectation: Expectation | None, *, idle_ms: float, response_ms: float
) -> tuple[float, float]:
    """Return how long an attempt may take to its first byte, and be silent afterwards.

    The last attempt is not cut off while it may still answer; nobody can see the first token of a
    request without a stream, so nothing is expected of it (None), and its deadline covers only the
    answer as a whole.
    """
    if expectation is None:
        return response_ms, response_ms
    if expectation.other_ttft_ms_p99 is None:
        return idle_ms, idle_ms
    return min(first_token_deadline_ms(expectation), idle_ms), idle_ms


def first_token_deadline_ms(expectation: Expectation) -> float:
    """Return after how long the target makes way for the other, which there must be.

    Never before its P99. From then on a token is expected to take as long again as it is beyond
    its median (first-token times have tails like that), so the other is sooner once it would take
    less; or at the last moment at which the other is still inside the budget, if that is sooner.
    """
    other_ms = expectation.other_ttft_ms_p99
    assert other_ms is not None
    if not expectation.learned:
        return max(GUESS_LATE_AT_LEAST_MS, GUESS_LATE_FACTOR * expectation.ttft_ms_p99)
    late_ms = expectation.ttft_ms_p50 + other_ms
    last_chance_ms = expectation.budget_left_ms - other_ms
    if last_chance_ms > 0.0:
        late_ms = min(late_ms, last_chance_ms)
    return max(LATE_AT_LEAST_MS, expectation.ttft_ms_p99, late_ms)
