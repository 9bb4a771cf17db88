"""The interface through which use cases ask agents for what only agents hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from protos.domain.resources import Tier
    from protos.domain.trace import Trace


class TracePlace(NamedTuple):
    """A trace's place in a list: greater comes first; ids break ties."""

    value: float
    trace_id: str


@dataclass(frozen=True, slots=True)
class TraceLine:
    """One trace in a list."""

    place: TracePlace
    trace_id: str
    ingress_node_id: str
    began_unix_ms: int
    deployment: str
    node_id: str
    serving_tier: str
    billing_tier: str
    status: int
    budget_ms: float
    #: Last mile included; None without a first token.
    felt_ttft_ms: float | None
    ended_ms: float
    missed: bool
    predicted_miss: bool
    cost_nano_usd: int
    clock_jumped: bool
    client_gone: bool
    #: Its deployment stays in the zones that the request was bound to.
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """The traces that a list should show."""

    deployment: str = ""
    missed: bool = False
    #: The slowest first tokens first, else the newest requests first.
    slowest: bool = False
    limit: int = 0
    after: TracePlace | None = None


@dataclass(frozen=True, slots=True)
class ExplainedCandidate:
    """Why one replica won or lost. ``terms`` are names and milliseconds."""

    node_id: str
    pop_id: str
    tier: Tier | None
    zone: str
    ttft_ms_p99: float
    terms: tuple[tuple[str, float], ...]
    price_nano_usd_per_1k_tokens: int
    fits: bool
    chosen: bool
    verdict: str


@dataclass(frozen=True, slots=True)
class ExplainedRoute:
    """How one agent would place a request."""

    deployment: str
    via_node: str
    budget_ms: float
    candidates: tuple[ExplainedCandidate, ...]
    predicted_miss: bool
    serving_tier: Tier | None
    billing_tier: Tier | None
    summary: str


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """An engine's answer to a canary. ``tokens_per_s`` counts the tokens behind the first."""

    text: str
    tokens: int
    first_token_ms: float
    tokens_per_s: float


class Agents(Protocol):
    """Asks one connected agent; all raise LinkDown, DeadlineExceeded, Overloaded."""

    async def resume(self, node_id: str) -> Sequence[str]:
        """Clear the faults that are gone; return those that prevent a resume."""
        ...

    async def explain(
        self, node_id: str, deployment: str, *, budget_ms: float, prompt_tokens: int
    ) -> ExplainedRoute:
        """Return how the agent would place a request. Raises: EngineFailed."""
        ...

    async def list_traces(self, node_id: str, asked: TraceFilter) -> Sequence[TraceLine]:
        """Return the agent's traces in order. Raises: EngineFailed."""
        ...

    async def find_trace(self, node_id: str, trace_id: str) -> Trace | None:
        """Return a trace, None if the agent does not hold it. Raises: EngineFailed."""
        ...

    async def canary(
        self,
        node_id: str,
        model: str,
        *,
        adapter: str = "",
        prompt: str = "",
        max_tokens: int = 0,
    ) -> CanaryResult:
        """Have the node's engine answer a prompt without sampling. Raises: EngineFailed."""
        ...
