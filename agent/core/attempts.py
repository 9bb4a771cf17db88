"""Whether an attempt's result is final or it is replaced, and when it is late. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: No first token counts as late before this: to save a few milliseconds is not worth the prefill
#: work that a replacement discards.
LATE_AT_LEAST_MS = 100.0
#: A prediction from a profile alone is a guess: this multiple of its P99 may pass, and at least the
#: time below.
GUESS_LATE_FACTOR = 4.0
GUESS_LATE_AT_LEAST_MS = 2_000.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one attempt ended before its client saw anything of it."""

    answered: bool
    #: The engine itself answered with 5xx, rather than being unreachable.
    engine_error: bool
    reason: str

    @classmethod
    def failed(cls, reason: str) -> Verdict:
        """The target did not answer at all."""
        return cls(answered=False, engine_error=False, reason=reason)


_ANSWERED = Verdict(answered=True, engine_error=False, reason="")


def verdict_of_status(status: int, reason: str = "") -> Verdict:
    """Return what a response with ``status`` means: 4xx is an answer, 5xx is a failure.

    ``reason`` says more of a failure than its status.

    503 is a temporary refusal; 409 is one from peers only, or an engine's, of which none is known.
    """
    if status < 409:
        return _ANSWERED
    if status in (409, 503):
        return Verdict(answered=False, engine_error=False, reason=f"refused with {status}")
    if status >= 500:
        return Verdict(
            answered=False, engine_error=True, reason=reason or f"engine answered {status}"
        )
    return _ANSWERED


@dataclass(slots=True)
class Expectation:
    """The predictions for the target that is asked, and for the best other one. Written once.

    ``learned``: predicted from outcomes; otherwise from a profile, whose P99 is a guess.
    ``other_ttft_ms_p99`` is None when no other target could be asked.
    """

    ttft_ms_p50: float
    ttft_ms_p99: float
    learned: bool
    budget_left_ms: float
    other_ttft_ms_p99: float | None


def first_token_deadline_ms(expectation: Expectation) -> float:
    """Return after how long a target without a first token is replaced by the other one.

    ``other_ttft_ms_p99`` must not be None: without another target there is no deadline.

    It is never before the target's P99. After that, the expected remaining time equals the time
    already passed since the median (first-token times are heavy-tailed), so the target is replaced
    when the other would take less, or at the last moment at which the other is still within the
    budget, if that is earlier. A guessed prediction gets more time.
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
