"""The log of one request, and the trace that is made from it at its end.

The request path is hot: it records numbers and keeps references to its placements.
``FinishedRequest.trace`` builds the rows later, on another thread.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from agent.core.promises import shed_by
from protos.domain.offers import UNPRICED_NANO_USD_PER_1K_TOKENS
from protos.domain.trace import (
    MAX_ATTEMPTS,
    MAX_CANDIDATES,
    MAX_TEXT_CHARS,
    NO_COST,
    NO_USAGE,
    AttemptOutcome,
    AttemptPurpose,
    FarTimes,
    Trace,
    TraceAttempt,
    TraceCandidate,
    TraceColdStart,
    token_gaps,
)
from protos.domain.usage_record import BillingReason, UsageCause

if TYPE_CHECKING:
    from agent.core.cold_start import ColdStart
    from agent.core.request.attempt import TokenTimes
    from protos.domain.errors import EdgeForgeError
    from protos.domain.pricing import Cost, Usage
    from protos.domain.resources import Price
    from protos.domain.router import Candidate, Placement


@dataclass(slots=True)
class AttemptLog:
    """How one attempt ended. Written once; not frozen because it is hot."""

    node_id: str
    outcome: AttemptOutcome
    purpose: AttemptPurpose
    detail: str
    took_ms: float
    began_mono_ms: float
    budget_left_ms: float

    def as_json(self) -> dict[str, object]:
        """Return what ``edgeforge-agent status`` shows of it."""
        return {
            "node_id": self.node_id,
            "outcome": str(self.outcome),
            "purpose": str(self.purpose),
            "detail": self.detail,
            "took_ms": self.took_ms,
        }


@dataclass(slots=True)
class RequestLog:
    """One request at the agent that its client reached. Times are monotonic milliseconds."""

    trace_id: str
    began_unix_ms: int
    path: str
    first_byte_mono_ms: float
    read_mono_ms: float = 0.0
    #: The ``x-request-id`` that the client sent, if any.
    client_request_id: str = ""
    deployment: str = ""
    model: str = ""
    sla: str = ""
    account: str = ""
    #: Zones that it is bound to, sorted; empty: none.
    zones: tuple[str, ...] = ()
    stream: bool = False
    status: int = 0
    error: str = ""
    #: Why a valid request was refused; empty if it was not.
    shed: str = ""
    attempts: list[AttemptLog] = field(default_factory=list)
    #: The placement of each attempt; large, so they are moved to the trace at the end.
    placements: list[Placement] = field(default_factory=list)
    node_id: str = ""
    pop_id: str = ""
    #: Whether a peer served the answer, rather than this node's own engine.
    by_peer: bool = False
    serving_tier: str = ""
    billing_tier: str = ""
    predicted_miss: bool = False
    budget_ms: float = 0.0
    predicted_ttft_ms_p99: float = 0.0
    last_mile_ms: float = 0.0
    took_ms: float = 0.0
    authed_mono_ms: float | None = None
    placed_mono_ms: float | None = None
    asked_mono_ms: float | None = None
    first_token_mono_ms: float | None = None
    usage: Usage = NO_USAGE
    #: The serving host counted more tokens than is possible; ``usage`` is this agent's count.
    usage_exceeded: bool = False
    cost: Cost = NO_COST
    card_version: int = 0
    #: Whether it has a usage record.
    recorded: bool = False
    #: How it ended, for its usage record.
    cause: UsageCause = UsageCause.FAILED
    billing_reason: BillingReason = BillingReason.FREE
    #: What its tokens are billed at; None: it is free, or its tier is not on the price card.
    price: Price | None = None
    #: From the first token to the last one.
    stream_ms: float = 0.0
    #: How long the answer waited for its cold start.
    cold_wait_ms: float = 0.0
    client_gone: bool = False
    clock_jumped: bool = False
    #: Attempts that were replaced by another before the first byte.
    replaced: int = 0
    hedge_won: bool = False
    continued: bool = False
    broken: bool = False
    answered: bool = False
    far: FarTimes | None = None
    #: The cold start that the answer waited for.
    cold_start: ColdStart | None = None
    tokens: TokenTimes | None = None

    @property
    def ttft_ms(self) -> float | None:
        """From the first byte to the first token; None for a request without a stream."""
        first_token_mono_ms = self.first_token_mono_ms
        return (
            None if first_token_mono_ms is None else first_token_mono_ms - self.first_byte_mono_ms
        )

    @property
    def felt_ttft_ms(self) -> float | None:
        """The first-token time including the last mile, as the user sees it."""
        ttft_ms = self.ttft_ms
        return None if ttft_ms is None else ttft_ms + self.last_mile_ms

    @property
    def matters(self) -> bool:
        """Whether its trace is kept first under load: it failed, or was later than its budget.

        Client errors do not count, because any client could fill the buffer with them.
        """
        if self.status >= 429 or self.client_gone or (self.status < 400 and self.error):
            return True
        felt_ms = self.felt_ttft_ms
        return felt_ms is not None and felt_ms > self.budget_ms

    def forget(self) -> None:
        """Drop what says whose request it was: it may not be kept in this zone."""
        self.account = self.deployment = self.model = self.sla = self.client_request_id = ""
        self.zones = ()

    def refused(self, error: EdgeForgeError) -> None:
        """Record that the client gets ``error``."""
        self.status, self.error = error.http_status, error.message
        if (reason := shed_by(error)) is not None:
            self.shed = reason

    def finish(self, ingress: tuple[str, str]) -> FinishedRequest:
        """Return the input of the trace; large parts are moved there from the log."""
        placements, tokens = self.placements, self.tokens
        self.placements, self.tokens = [], None
        return FinishedRequest(self, placements, tokens, ingress)

    def as_json(self) -> dict[str, object]:
        """Return what ``edgeforge-agent status`` shows of it."""
        return {
            "trace_id": self.trace_id,
            "began_unix_ms": self.began_unix_ms,
            "path": self.path,
            "client_request_id": self.client_request_id,
            "deployment": self.deployment,
            "sla": self.sla,
            "account": self.account,
            "stream": self.stream,
            "status": self.status,
            "error": self.error,
            "shed": str(self.shed),
            "attempts": [attempt.as_json() for attempt in self.attempts],
            "node_id": self.node_id,
            "serving_tier": str(self.serving_tier),
            "billing_tier": str(self.billing_tier),
            "predicted_miss": self.predicted_miss,
            "budget_ms": self.budget_ms,
            "predicted_ttft_ms_p99": self.predicted_ttft_ms_p99,
            "ttft_ms": self.ttft_ms,
            "last_mile_ms": self.last_mile_ms,
            "took_ms": self.took_ms,
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "usage_exceeded": self.usage_exceeded,
            "cost_nano_usd": self.cost.total_nano_usd,
            "client_gone": self.client_gone,
            "clock_jumped": self.clock_jumped,
            "cold_start": None if self.cold_start is None else asdict(self.cold_start),
        }


class FinishedRequest:
    """A request that is over, with everything its trace is made from."""

    __slots__ = ("_ingress", "_placements", "_tokens", "log")

    def __init__(
        self,
        log: RequestLog,
        placements: list[Placement],
        tokens: TokenTimes | None,
        ingress: tuple[str, str],
    ) -> None:
        self.log = log
        self._placements = placements
        self._tokens = tokens
        #: Node and POP of this agent.
        self._ingress = ingress

    def trace(self) -> Trace:
        """Return the trace. Not hot: called on the thread that stores traces."""
        log = self.log
        times, left_out = self._token_times()
        return Trace(
            trace_id=log.trace_id,
            client_request_id=log.client_request_id,
            ingress_node_id=self._ingress[0],
            ingress_pop_id=self._ingress[1],
            began_unix_ms=log.began_unix_ms,
            path=log.path[:MAX_TEXT_CHARS],
            deployment=log.deployment,
            account=log.account,
            model=log.model,
            stream=log.stream,
            status=log.status,
            error=log.error[:MAX_TEXT_CHARS],
            client_gone=log.client_gone,
            clock_jumped=log.clock_jumped,
            budget_ms=log.budget_ms,
            last_mile_ms=log.last_mile_ms,
            read_ms=log.read_mono_ms - log.first_byte_mono_ms,
            authed_ms=self._since(log.authed_mono_ms),
            placed_ms=self._since(log.placed_mono_ms),
            asked_ms=self._since(log.asked_mono_ms),
            first_token_ms=log.ttft_ms,
            ended_ms=log.took_ms,
            far=log.far,
            token_gaps_us=token_gaps(times),
            tokens_left_out=left_out,
            attempts=tuple(
                self._attempt(attempt, placement)
                for attempt, placement in zip(
                    log.attempts[:MAX_ATTEMPTS], self._placements, strict=False
                )
            ),
            node_id=log.node_id,
            pop_id=log.pop_id,
            serving_tier=str(log.serving_tier),
            billing_tier=str(log.billing_tier),
            predicted_miss=log.predicted_miss,
            predicted_ttft_ms_p99=log.predicted_ttft_ms_p99,
            usage=log.usage,
            usage_exceeded=log.usage_exceeded,
            billing_reason=str(log.billing_reason) if log.recorded else "",
            cause=str(log.cause) if log.recorded else "",
            cost=log.cost,
            card_version=log.card_version,
            cold_start=_cold_start(log.cold_start),
            zones=log.zones,
        )

    def _since(self, mono_ms: float | None) -> float | None:
        return None if mono_ms is None else mono_ms - self.log.first_byte_mono_ms

    def _token_times(self) -> tuple[list[float], int]:
        tokens, first_byte_mono_ms = self._tokens, self.log.first_byte_mono_ms
        if tokens is None or self.log.first_token_mono_ms is None:
            return [], 0
        return [at - first_byte_mono_ms for at in tokens.times_mono_ms], tokens.left_out

    def _attempt(self, attempt: AttemptLog, placement: Placement) -> TraceAttempt:
        ordered = sorted(placement.candidates, key=_ttft_ms_p99)
        kept = ordered[:MAX_CANDIDATES]
        if all(one is not placement.chosen for one in kept):
            kept[-1] = placement.chosen
        return TraceAttempt(
            node_id=attempt.node_id,
            outcome=attempt.outcome,
            purpose=attempt.purpose,
            detail=attempt.detail[:MAX_TEXT_CHARS],
            began_ms=attempt.began_mono_ms - self.log.first_byte_mono_ms,
            took_ms=attempt.took_ms,
            budget_left_ms=attempt.budget_left_ms,
            predicted_miss=placement.predicted_miss,
            candidates=tuple(_candidate(one, placement.chosen) for one in kept),
            candidates_left_out=len(ordered) - len(kept),
        )


def _cold_start(cold: ColdStart | None) -> TraceColdStart | None:
    if cold is None:
        return None
    return TraceColdStart(cold.path, cold.residency, cold.weights_bytes, cold.took_ms, cold.pull_ms)


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
