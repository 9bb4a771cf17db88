"""The trace of one request: its latency and its cost by part, its attempts and candidates.

Times are milliseconds from the request's first byte, on the ingress agent's monotonic clock.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.pricing import Cost, Usage
from protos.domain.ttft import Term

if TYPE_CHECKING:
    from protos.domain.resources import Tier

#: Times of tokens kept for one request; later ones are counted.
MAX_TOKEN_TIMES = 4_096
#: Candidates kept for one placement, the chosen one among them; others are counted.
MAX_CANDIDATES = 64
#: Attempts kept for one request; agents make no more.
MAX_ATTEMPTS = 16
#: Longest text of an error or an outcome that is kept.
MAX_TEXT_CHARS = 500

NO_USAGE = Usage(0, 0, 0)
NO_COST = Cost(0, 0, 0)


class AttemptOutcome(enum.StrEnum):
    """How one attempt at a request ended."""

    #: Its answer went to the client, whole.
    ANSWERED = "answered"
    #: It brought a stream to its end that another attempt had begun.
    CONTINUED = "continued"
    #: No connection, a cut one or a malformed answer, before the client saw a byte.
    FAILED = "failed"
    #: The target refused to serve just now (503).
    REFUSED = "refused"
    #: What it asked for had left the target's engine, for another model or adapter (409).
    STALE = "stale"
    #: The engine answered 5xx.
    ENGINE_ERROR = "engine_error"
    #: No first token in time; another target was predicted to be sooner.
    LATE = "late"
    #: Another attempt at the same request had the first token.
    OVERTAKEN = "overtaken"
    #: It failed after the client had a part of its answer.
    BROKEN = "broken"
    #: The target could not be asked any more.
    NOT_SENT = "not_sent"
    CLIENT_GONE = "client_gone"
    #: The request's key, account or deployment was removed.
    REVOKED = "revoked"

    @property
    def is_fault(self) -> bool:
        """Whether the target or the way to it is to blame."""
        return self in _FAULTS


_FAULTS = frozenset(
    {
        AttemptOutcome.FAILED,
        AttemptOutcome.REFUSED,
        AttemptOutcome.ENGINE_ERROR,
        AttemptOutcome.LATE,
        AttemptOutcome.BROKEN,
    }
)


class AttemptPurpose(enum.StrEnum):
    """Why a target was asked."""

    SERVE = "serve"
    #: To find out what a hardly known target is like.
    EXPLORE = "explore"
    #: To find out whether a target that was late is in time again (strict deployments).
    TRIAL = "trial"
    #: Beside a first copy whose first token was late.
    SECOND_COPY = "second_copy"
    #: To continue a broken stream.
    REST = "rest"


@dataclass(slots=True)
class TraceCandidate:
    """One target as the router saw it; ``price_nano_usd_per_1k_tokens`` is 0 when unpriced.

    Never changed; not frozen, for speed: a trace has dozens. ``term_values_ms`` follow
    ``term_names``.
    """

    node_id: str
    pop_id: str
    tier: Tier
    fits: bool
    chosen: bool
    ttft_ms_p50: float
    ttft_ms_p99: float
    term_names: tuple[str, ...]
    term_values_ms: tuple[float, ...]
    price_nano_usd_per_1k_tokens: int
    headroom: int

    @property
    def terms(self) -> tuple[Term, ...]:
        """The prediction's terms by name."""
        return tuple(map(Term, self.term_names, self.term_values_ms))


@dataclass(frozen=True, slots=True)
class TraceAttempt:
    """One attempt: its target, the candidates it was chosen from, and its outcome.

    ``budget_left_ms`` is the budget at the choice; ``candidates`` are ordered by predicted P99.
    """

    node_id: str
    outcome: AttemptOutcome
    began_ms: float
    took_ms: float
    budget_left_ms: float = 0.0
    predicted_miss: bool = False
    candidates: tuple[TraceCandidate, ...] = ()
    candidates_left_out: int = 0
    purpose: AttemptPurpose = AttemptPurpose.SERVE
    #: Why it ended so, in words; empty when the outcome says it all.
    detail: str = ""

    @property
    def summary(self) -> str:
        """Purpose, outcome and detail in one line: "second copy: failed: connection refused"."""
        parts = [str(self.outcome).replace("_", " ")]
        if self.purpose is not AttemptPurpose.SERVE:
            parts.insert(0, str(self.purpose).replace("_", " "))
        if self.detail:
            parts.append(self.detail)
        return ": ".join(parts)


@dataclass(slots=True)
class FarTimes:
    """Times reported by the serving node. Never changed; not frozen, for speed.

    ``admission_ms``: from the request's first byte there until it was sent to the engine, without
    ``load_ms``, the wait until what it asks for was in the engine.
    ``queue_ms``: of ``engine_ms``, the wait for one of the engine's places.
    ``engine_ms``: from then to its first token (a stream), or to its whole answer.
    """

    admission_ms: float
    queue_ms: float
    engine_ms: float
    load_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class TraceColdStart:
    """The cold start that a request waited for: the whole load, which others may have begun.

    ``path`` and ``residency`` are words of ``ColdPath`` and ``Residency``; ``pull_ms`` of
    ``took_ms`` brought the files to the node's disk.
    """

    path: str
    residency: str
    weights_bytes: int
    took_ms: float
    pull_ms: float


@dataclass(frozen=True, slots=True)
class Trace:
    """One finished request at the agent that its client reached.

    ``read_ms`` .. ``ended_ms`` are moments: read completely; authenticated and checked; first
    target chosen; answering target asked; first token; last byte. None: not reached.
    ``token_gaps_us``: microseconds from each token to the next, the first from the first byte.
    ``far`` is None when the node reported none. ``card_version`` 0: no price was known.
    """

    trace_id: str
    ingress_node_id: str
    ingress_pop_id: str
    began_unix_ms: int
    path: str
    deployment: str = ""
    account: str = ""
    model: str = ""
    stream: bool = False
    status: int = 0
    error: str = ""
    client_gone: bool = False
    clock_jumped: bool = False
    budget_ms: float = 0.0
    last_mile_ms: float = 0.0
    read_ms: float = 0.0
    authed_ms: float | None = None
    placed_ms: float | None = None
    asked_ms: float | None = None
    first_token_ms: float | None = None
    ended_ms: float = 0.0
    far: FarTimes | None = None
    token_gaps_us: tuple[int, ...] = ()
    tokens_left_out: int = 0
    attempts: tuple[TraceAttempt, ...] = ()
    node_id: str = ""
    pop_id: str = ""
    serving_tier: str = ""
    billing_tier: str = ""
    predicted_miss: bool = False
    predicted_ttft_ms_p99: float = 0.0
    usage: Usage = NO_USAGE
    cost: Cost = NO_COST
    card_version: int = 0
    #: The ``x-request-id`` that the client sent, if any; its own text.
    client_request_id: str = ""
    #: The serving node counted more tokens than is possible; ``usage`` is the ingress' own count.
    usage_exceeded: bool = False
    #: Words of ``BillingReason`` and ``UsageCause``, as on its usage record; empty: it has none.
    billing_reason: str = ""
    cause: str = ""
    #: The cold start that the answer waited for; None: what was asked for was in the engine.
    cold_start: TraceColdStart | None = None
    #: Zones that the request was bound to, sorted; empty: none.
    zones: tuple[str, ...] = ()
    #: Names, texts and times of tokens stay in ``zones`` and are left out.
    withheld: bool = False

    @property
    def felt_ttft_ms(self) -> float | None:
        """The first token as the user felt it, last mile included; None without a stream."""
        return None if self.first_token_ms is None else self.first_token_ms + self.last_mile_ms

    @property
    def missed(self) -> bool:
        """Whether the budget was missed, or predicted to be missed."""
        if self.predicted_miss:
            return True
        felt_ms = self.felt_ttft_ms
        if felt_ms is None:
            return self.stream and self.status != 200 and not self.client_gone
        return felt_ms > self.budget_ms


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a request's time."""

    name: str
    began_ms: float
    took_ms: float


#: Names of the parts in their order; a request may lack some. ``failed`` is the time of attempts
#: that were replaced, ``answer`` the engine time of an answer that is not a stream.
PARTS = (
    "receive",
    "auth",
    "route",
    "failed",
    "network",
    "admission",
    "load",
    "queue",
    "prefill",
    "answer",
    "decode",
)


def waterfall(trace: Trace) -> tuple[Part, ...]:
    """Return the parts of the time, in order and without a gap, as far as the request got.

    Up to ``prefill`` they sum to the first token. The serving node's times are from its own clock
    and are cut to what was measured here. Network is the time of both ways.
    """
    cuts: list[tuple[str, float]] = [("receive", trace.read_ms)]
    if trace.authed_ms is not None:
        cuts.append(("auth", trace.authed_ms))
    if trace.placed_ms is not None:
        cuts.append(("route", trace.placed_ms))
        cuts.append(("failed", trace.ended_ms if trace.asked_ms is None else trace.asked_ms))
    if trace.asked_ms is not None:
        first_ms = trace.first_token_ms
        answered_ms = first_ms if first_ms is not None else trace.ended_ms
        cuts += asked_cuts(trace.far, trace.asked_ms, answered_ms, stream=first_ms is not None)
    if trace.first_token_ms is not None:
        cuts.append(("decode", trace.ended_ms))
    return _parts(cuts, trace.ended_ms)


def asked_cuts(
    far: FarTimes | None, asked_ms: float, answered_ms: float, *, stream: bool
) -> list[tuple[str, float]]:
    """Return where network, admission, load, queue and engine end, from asked to answered.

    The part of the load is left out where there was none.
    """
    engine = "prefill" if stream else "answer"
    if far is None:
        return [(engine, answered_ms)]
    engine_end_ms = answered_ms
    engine_began_ms = max(asked_ms, engine_end_ms - far.engine_ms)
    load_began_ms = max(asked_ms, engine_began_ms - far.load_ms)
    admitted_ms = max(asked_ms, load_began_ms - far.admission_ms)
    queue_end_ms = min(engine_end_ms, engine_began_ms + min(far.queue_ms, far.engine_ms))
    load = [("load", engine_began_ms)] if far.load_ms > 0.0 else []
    return [
        ("network", admitted_ms),
        ("admission", load_began_ms),
        *load,
        ("queue", queue_end_ms),
        (engine, engine_end_ms),
    ]


def _parts(cuts: list[tuple[str, float]], end_ms: float) -> tuple[Part, ...]:
    """Return the parts between ``cuts``, none of which ends before its predecessor."""
    parts = []
    at_ms = 0.0
    for name, until_ms in cuts:
        until_ms = min(max(at_ms, until_ms), max(at_ms, end_ms))
        parts.append(Part(name, at_ms, until_ms - at_ms))
        at_ms = until_ms
    return tuple(part for part in parts if part.took_ms > 0.0 or part.name != "failed")


def part_ms(parts: tuple[Part, ...], name: str) -> float:
    """Return the time of the part ``name``, 0 when the request has no such part."""
    return sum(part.took_ms for part in parts if part.name == name)


def token_gaps(times_ms: list[float]) -> tuple[int, ...]:
    """Return the gaps in whole microseconds between moments; rounding errors do not add up."""
    gaps = []
    at_us = 0
    for time_ms in times_ms:
        gap_us = round(time_ms * 1_000.0) - at_us
        if gap_us < 0:
            gap_us = 0
        gaps.append(gap_us)
        at_us += gap_us
    return tuple(gaps)


def token_times_ms(gaps_us: tuple[int, ...]) -> tuple[float, ...]:
    """Return each token's moment from ``token_gaps``, to the microsecond."""
    times = []
    at_us = 0
    for gap_us in gaps_us:
        at_us += gap_us
        times.append(at_us / 1_000.0)
    return tuple(times)


@dataclass(frozen=True, slots=True)
class TokenPace:
    """Time per output token after the first, by nearest rank; 0 with fewer than two tokens."""

    tokens: int
    tpot_ms_p50: float
    tpot_ms_p99: float


def token_pace(trace: Trace) -> TokenPace:
    """Return the pace of the tokens. Tokens of one read have a gap of 0."""
    gaps = sorted(trace.token_gaps_us[1:])
    tokens = len(trace.token_gaps_us) + trace.tokens_left_out
    if not gaps:
        return TokenPace(tokens, 0.0, 0.0)
    return TokenPace(tokens, _rank(gaps, 50) / 1_000.0, _rank(gaps, 99) / 1_000.0)


def _rank(ordered: list[int], percent: int) -> int:
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
