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
class Verdict:
    """How one attempt ended before its client saw anything of it."""

    answered: bool
    #: The engine itself said 5xx, rather than being out of reach.
    engine_error: bool
    reason: str

    @classmethod
    def failed(cls, reason: str) -> Verdict:
        """The target did not answer at all."""
        return cls(answered=False, engine_error=False, reason=reason)


_ANSWERED = Verdict(answered=True, engine_error=False, reason="")


def verdict_of_status(status: int) -> Verdict:
    """Return what a whole response of ``status`` means: 4xx is an answer, 5xx is not.

    503 is a refusal to serve just now; a stale generation (409, peers only) is placed again.
    """
    if status < 409:
        return _ANSWERED
    if status in (409, 503):
        return Verdict(answered=False, engine_error=False, reason=f"refused with {status}")
    if status >= 500:
        return Verdict(answered=False, engine_error=True, reason=f"engine answered {status}")
    return _ANSWERED


@dataclass(slots=True)
class Expectation:
    """What was predicted of the target that is asked, and of the best other one. Written once.

    ``learned``: from outcomes, so that the P99 is one; otherwise from a profile.
    ``other_ttft_ms_p99`` is None when no other target could be asked.
    """

    ttft_ms_p50: float
    ttft_ms_p99: float
    learned: bool
    budget_left_ms: float
    other_ttft_ms_p99: float | None


def first_token_deadline_ms(expectation: Expectation) -> float:
    """Return after how long a target without a first token makes way for the other one.

    ``other_ttft_ms_p99`` must not be None: a deadline acts only where another would be sooner.

    Never before its P99. From then on a token is expected to take as long again as it is beyond
    its median (first-token times have tails like that), so the other is sooner once it would take
    less; or at the last moment at which the other is still inside the budget, if that is sooner.
    A prediction that is a guess gets more time.
    """
    other_ms = expectation.other_ttft_ms_p99
    assert other_ms is not None
    late_ms = expectation.ttft_ms_p50 + other_ms
    if not expectation.learned:
        guess_ms = GUESS_LATE_FACTOR * expectation.ttft_ms_p99
        return max(GUESS_LATE_AT_LEAST_MS, guess_ms, late_ms)
    last_chance_ms = expectation.budget_left_ms - other_ms
    if last_chance_ms > 0.0:
        late_ms = min(late_ms, last_chance_ms)
    return max(LATE_AT_LEAST_MS, expectation.ttft_ms_p99, late_ms)
