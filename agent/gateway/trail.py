"""The marks that a request leaves on its way, and the trace that is made of them afterwards.

The way itself is hot: it notes numbers and keeps what it decided on by reference.
``Finished.trace`` turns that into rows, on another thread, when the client has its answer.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.offers import UNPRICED_NANO_USD_PER_1K_TOKENS
from protos.domain.trace import (
    MAX_ATTEMPTS,
    MAX_CANDIDATES,
    MAX_TEXT_CHARS,
    MAX_TOKEN_TIMES,
    NO_COST,
    NO_USAGE,
    FarTimes,
    Trace,
    TraceAttempt,
    TraceCandidate,
    token_gaps,
)

if TYPE_CHECKING:
    from agent.gateway.records import Attempt, RequestRecord
    from agent.relay.exchange import TokenCounter
    from agent.relay.messages import Request
    from protos.domain.pricing import Cost, Usage
    from protos.domain.router import Candidate, Placement

#: Takes the trace of a finished request; called at once, it must not wait. The trace is made when
#: what it is handed is called, on any thread, once. The flag: it failed or was late.
TraceSink = Callable[[Callable[[], Trace], bool], None]


class TokenTimes:
    """When each token of one attempt came, up to a bound; also a ``TokenCounter``."""

    __slots__ = ("also", "left_out", "times_mono_ms")

    def __init__(self, also: TokenCounter | None) -> None:
        self.times_mono_ms = array("d")
        self.left_out = 0
        #: Told of each read's tokens too.
        self.also = also

    def count(self, tokens: int, now_mono_ms: float) -> None:
        """``tokens`` came with one read. Hot."""
        times = self.times_mono_ms
        if tokens == 1 and len(times) < MAX_TOKEN_TIMES:
            times.append(now_mono_ms)
        elif tokens > 0:
            kept = min(tokens, MAX_TOKEN_TIMES - len(times))
            times.extend([now_mono_ms] * kept)
            self.left_out += tokens - kept
        if self.also is not None:
            self.also(tokens, now_mono_ms)


@dataclass(slots=True)
class _Noted:
    """One attempt, and the placement that led to it. Written once; not frozen: it is hot."""

    attempt: Attempt
    placement: Placement
    budget_left_ms: float
    began_mono_ms: float


class Trail:
    """One request's marks, on the monotonic clock; written by one request's task."""

    __slots__ = (
        "asked_mono_ms",
        "authed_mono_ms",
        "card_version",
        "cost",
        "far",
        "first_token_mono_ms",
        "jumps_before",
        "model",
        "noted",
        "placed_mono_ms",
        "pop_id",
        "read_mono_ms",
        "request",
        "tokens",
        "usage",
    )

    def __init__(self, request: Request, read_mono_ms: float, jumps_before: int) -> None:
        self.request = request
        self.read_mono_ms = read_mono_ms
        #: Jumps of the wall clock that had been seen before this request.
        self.jumps_before = jumps_before
        self.authed_mono_ms: float | None = None
        self.placed_mono_ms: float | None = None
        self.asked_mono_ms: float | None = None
        self.first_token_mono_ms: float | None = None
        self.far: FarTimes | None = None
        self.tokens: TokenTimes | None = None
        self.noted: list[_Noted] = []
        self.model = ""
        self.pop_id = ""
        self.usage: Usage = NO_USAGE
        self.cost: Cost = NO_COST
        self.card_version = 0

    def note(
        self, attempt: Attempt, placement: Placement, budget_left_ms: float, began_mono_ms: float
    ) -> None:
        """Remember how one attempt ended, and what it was chosen from."""
        self.noted.append(_Noted(attempt, placement, budget_left_ms, began_mono_ms))


class Finished:
    """A request that is over."""

    __slots__ = ("_first_byte_mono_ms", "_ingress", "_last_mile_ms", "_record", "_trail")

    def __init__(self, record: RequestRecord, trail: Trail, ingress: tuple[str, str]) -> None:
        self._record = record
        self._trail = trail
        #: Node and POP of this agent.
        self._ingress = ingress
        self._first_byte_mono_ms = trail.request.first_byte_mono_ms
        self._last_mile_ms = trail.request.last_mile_ms
        del trail.request  # its body is heavy, and nobody's business any more

    @property
    def matters(self) -> bool:
        """Whether somebody will want to know: it failed, or came later than its budget."""
        record = self._record
        if record.status >= 429 or record.client_gone or (record.status < 400 and record.error):
            return True  # not what a client got wrong: anybody could fill the places with that
        ttft_ms = record.ttft_ms
        return ttft_ms is not None and ttft_ms + self._last_mile_ms > record.budget_ms

    def trace(self) -> Trace:
        """Return the trace. Not hot: for the thread that keeps it."""
        record, trail = self._record, self._trail
        times, left_out = self._token_times()
        return Trace(
            trace_id=record.trace_id,
            ingress_node_id=self._ingress[0],
            ingress_pop_id=self._ingress[1],
            began_unix_ms=record.began_unix_ms,
            path=record.path[:MAX_TEXT_CHARS],
            deployment=record.deployment,
            account=record.account,
            model=trail.model,
            stream=record.stream,
            status=record.status,
            error=record.error[:MAX_TEXT_CHARS],
            client_gone=record.client_gone,
            clock_jumped=record.clock_jumped,
            budget_ms=record.budget_ms,
            last_mile_ms=self._last_mile_ms,
            read_ms=trail.read_mono_ms - self._first_byte_mono_ms,
            authed_ms=self._since(trail.authed_mono_ms),
            placed_ms=self._since(trail.placed_mono_ms),
            asked_ms=self._since(trail.asked_mono_ms),
            first_token_ms=self._since(trail.first_token_mono_ms),
            ended_ms=record.took_ms,
            far=trail.far,
            token_gaps_us=token_gaps(times),
            tokens_left_out=left_out,
            attempts=tuple(self._attempt(noted) for noted in trail.noted[:MAX_ATTEMPTS]),
            node_id=record.node_id,
            pop_id=trail.pop_id,
            serving_tier=str(record.serving_tier),
            billing_tier=str(record.billing_tier),
            predicted_miss=record.predicted_miss,
            predicted_ttft_ms_p99=record.predicted_ttft_ms_p99,
            usage=trail.usage,
            cost=trail.cost,
            card_version=trail.card_version,
        )

    def _since(self, mono_ms: float | None) -> float | None:
        return None if mono_ms is None else mono_ms - self._first_byte_mono_ms

    def _token_times(self) -> tuple[list[float], int]:
        tokens = self._trail.tokens
        if tokens is None or self._trail.first_token_mono_ms is None:
            return [], 0
        return [at - self._first_byte_mono_ms for at in tokens.times_mono_ms], tokens.left_out

    def _attempt(self, noted: _Noted) -> TraceAttempt:
        attempt, placement = noted.attempt, noted.placement
        ordered = sorted(placement.candidates, key=_ttft_ms_p99)
        kept = ordered[:MAX_CANDIDATES]
        if all(one is not placement.chosen for one in kept):
            kept[-1] = placement.chosen
        return TraceAttempt(
            node_id=attempt.node_id,
            outcome=attempt.outcome[:MAX_TEXT_CHARS],
            began_ms=noted.began_mono_ms - self._first_byte_mono_ms,
            took_ms=attempt.took_ms,
            budget_left_ms=noted.budget_left_ms,
            predicted_miss=placement.predicted_miss,
            candidates=tuple(_candidate(one, placement.chosen) for one in kept),
            candidates_left_out=len(ordered) - len(kept),
        )


def _candidate(candidate: Candidate, chosen: Candidate) -> TraceCandidate:
    rate = candidate.price_nano_usd_per_1k_tokens
    prediction = candidate.prediction
    return TraceCandidate(
        node_id=candidate.node.id,
        pop_id=candidate.pop.id,
        tier=candidate.pop.tier,
        fits=candidate.fits,
        chosen=candidate is chosen,
        ttft_ms_p50=prediction.ttft_ms_p50,
        ttft_ms_p99=prediction.ttft_ms_p99,
        term_names=prediction.names,
        term_values_ms=prediction.values_ms,
        price_nano_usd_per_1k_tokens=0 if rate == UNPRICED_NANO_USD_PER_1K_TOKENS else rate,
        headroom=candidate.headroom,
    )


def _ttft_ms_p99(candidate: Candidate) -> float:
    return candidate.ttft_ms_p99
