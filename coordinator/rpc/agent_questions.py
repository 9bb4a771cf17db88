"""Asks agents in the messages of the fleet stream; implements ``operations.agents.Agents``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from coordinator.operations.agents import (
    CanaryResult,
    ExplainedCandidate,
    ExplainedRoute,
    TraceFilter,
    TraceLine,
    TracePlace,
)
from protos.domain.errors import EngineFailed
from protos.v1 import fleet_pb2, resources_pb2, trace_pb2
from protos.wire import place_in_order, tier_from_wire, tier_to_wire, trace_from_wire

if TYPE_CHECKING:
    from coordinator.core.peer_dials import Dial
    from protos.domain.resources import Tier
    from protos.domain.trace import Trace

#: Ask one connected agent; the callee sets the query's id. Raises: LinkDown, DeadlineExceeded.
AskAgent = Callable[[str, fleet_pb2.Query], Awaitable[fleet_pb2.Answer]]

_TIMEOUT_MS = 5_000
#: Of a question to many agents.
_TRACE_TIMEOUT_MS = 3_000
#: An engine without a GPU takes a while for the first token.
_CANARY_TIMEOUT_MS = 30_000
#: Fields of a trace in a list with the same name and type on both sides.
_LINE = (
    "trace_id",
    "ingress_node_id",
    "began_unix_ms",
    "deployment",
    "node_id",
    "serving_tier",
    "billing_tier",
    "status",
    "budget_ms",
    "ended_ms",
    "missed",
    "predicted_miss",
    "cost_nano_usd",
    "clock_jumped",
    "client_gone",
    "withheld",
)
_CANDIDATE = (
    "node_id",
    "pop_id",
    "zone",
    "ttft_ms_p99",
    "price_nano_usd_per_1k_tokens",
    "fits",
    "chosen",
    "verdict",
)
_ROUTE = ("deployment", "via_node", "budget_ms", "predicted_miss", "summary")


class AgentQuestions:
    """The questions that use cases may ask."""

    def __init__(self, ask: AskAgent) -> None:
        self._ask = ask

    async def resume(self, node_id: str) -> Sequence[str]:
        """Clear the faults that are gone; return those that prevent a resume."""
        query = fleet_pb2.Query(timeout_ms=_TIMEOUT_MS, resume=fleet_pb2.ResumeQuery())
        answer = await self._ask(node_id, query)
        return [fault.detail for fault in answer.resumption.standing]

    async def explain(
        self, node_id: str, deployment: str, *, budget_ms: float, prompt_tokens: int
    ) -> ExplainedRoute:
        """Return how the agent would place a request. Raises: EngineFailed."""
        asked = fleet_pb2.ExplainQuery(
            deployment=deployment, budget_ms=budget_ms, prompt_tokens=prompt_tokens
        )
        answer = await self._ask(node_id, fleet_pb2.Query(timeout_ms=_TIMEOUT_MS, explain=asked))
        if answer.error or answer.WhichOneof("content") != "explanation":
            raise EngineFailed(
                f"node {node_id!r} could not explain: {answer.error or 'an empty answer'}",
                "ask again when it has caught up: `edgeforge node ls`",
                code="explain_failed",
            )
        return _route_of(answer.explanation)

    async def dial(self, order: Dial) -> str:
        """Have a node dial another's peer address; return what failed. Raises: EngineFailed."""
        host, port = order.address
        asked = fleet_pb2.DialQuery(node_id=order.node_id, peer_host=host, peer_port=port)
        query = fleet_pb2.Query(timeout_ms=_TIMEOUT_MS, dial=asked)
        answer = await self._answered(order.by, query)
        return answer.dialled.failure

    async def list_traces(self, node_id: str, asked: TraceFilter) -> Sequence[TraceLine]:
        """Return the agent's traces in order. Raises: EngineFailed."""
        message = filter_to_wire(asked)
        listing = fleet_pb2.TraceListQuery(filter=message)
        answer = await self._answered(
            node_id, fleet_pb2.Query(timeout_ms=_TRACE_TIMEOUT_MS, trace_list=listing)
        )
        return [line_of(one, message.order) for one in answer.trace_list.traces]

    async def find_trace(self, node_id: str, trace_id: str) -> Trace | None:
        """Return a trace, None if the agent does not hold it. Raises: EngineFailed."""
        showing = fleet_pb2.TraceShowQuery(trace_id=trace_id)
        answer = await self._answered(
            node_id, fleet_pb2.Query(timeout_ms=_TRACE_TIMEOUT_MS, trace_show=showing)
        )
        shown = answer.trace_shown
        return trace_from_wire(shown.trace) if shown.HasField("trace") else None

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
        asked = fleet_pb2.CanaryQuery(
            model=model, adapter=adapter, prompt=prompt, max_tokens=max_tokens
        )
        query = fleet_pb2.Query(timeout_ms=_CANARY_TIMEOUT_MS, canary=asked)
        answer = await self._answered(node_id, query)
        if answer.WhichOneof("content") != "canary":
            raise EngineFailed(f"node {node_id!r} sent no canary", "is its agent too old?")
        found = answer.canary
        return CanaryResult(found.text, found.tokens, found.first_token_ms, found.tokens_per_s)

    async def _answered(self, node_id: str, query: fleet_pb2.Query) -> fleet_pb2.Answer:
        answer = await self._ask(node_id, query)
        if answer.error:
            raise EngineFailed(answer.error)
        return answer


def filter_of(message: trace_pb2.TraceFilter) -> TraceFilter:
    """Return the filter of a list."""
    after = message.after
    return TraceFilter(
        deployment=message.deployment,
        missed=message.missed,
        slowest=message.order == trace_pb2.TRACE_ORDER_SLOWEST,
        limit=message.limit,
        after=TracePlace(after.value, after.trace_id) if message.HasField("after") else None,
    )


def filter_to_wire(asked: TraceFilter) -> trace_pb2.TraceFilter:
    """Return a filter as a message."""
    return trace_pb2.TraceFilter(
        deployment=asked.deployment,
        missed=asked.missed,
        order=trace_pb2.TRACE_ORDER_SLOWEST if asked.slowest else trace_pb2.TRACE_ORDER_NEWEST,
        limit=asked.limit,
        after=None if asked.after is None else cursor_to_wire(asked.after),
    )


def cursor_to_wire(place: TracePlace) -> trace_pb2.TraceCursor:
    """Return the place after which a page begins."""
    return trace_pb2.TraceCursor(value=place.value, trace_id=place.trace_id)


def line_of(message: trace_pb2.TraceSummary, order: int) -> TraceLine:
    """Return one line of a list in this order."""
    plain: dict[str, Any] = {name: getattr(message, name) for name in _LINE}
    felt_ms = message.felt_ttft_ms if message.HasField("felt_ttft_ms") else None
    return TraceLine(TracePlace(*place_in_order(message, order)), felt_ttft_ms=felt_ms, **plain)


def line_to_wire(line: TraceLine) -> trace_pb2.TraceSummary:
    """Return one line of a list as a message."""
    plain: dict[str, Any] = {name: getattr(line, name) for name in _LINE}
    return trace_pb2.TraceSummary(felt_ttft_ms=line.felt_ttft_ms, **plain)


def route_to_wire(route: ExplainedRoute) -> fleet_pb2.RouteExplanation:
    """Return an explanation as a message."""
    plain: dict[str, Any] = {name: getattr(route, name) for name in _ROUTE}
    return fleet_pb2.RouteExplanation(
        candidates=map(_candidate_to_wire, route.candidates),
        serving_tier=_tier_to_wire(route.serving_tier),
        billing_tier=_tier_to_wire(route.billing_tier),
        **plain,
    )


def _route_of(message: fleet_pb2.RouteExplanation) -> ExplainedRoute:
    plain: dict[str, Any] = {name: getattr(message, name) for name in _ROUTE}
    return ExplainedRoute(
        candidates=tuple(map(_candidate_of, message.candidates)),
        serving_tier=_tier_of(message.serving_tier),
        billing_tier=_tier_of(message.billing_tier),
        **plain,
    )


def _candidate_of(message: fleet_pb2.CandidateExplanation) -> ExplainedCandidate:
    plain: dict[str, Any] = {name: getattr(message, name) for name in _CANDIDATE}
    terms = tuple((term.name, term.value_ms) for term in message.terms)
    return ExplainedCandidate(tier=_tier_of(message.tier), terms=terms, **plain)


def _candidate_to_wire(one: ExplainedCandidate) -> fleet_pb2.CandidateExplanation:
    plain: dict[str, Any] = {name: getattr(one, name) for name in _CANDIDATE}
    terms = [fleet_pb2.Term(name=name, value_ms=value_ms) for name, value_ms in one.terms]
    return fleet_pb2.CandidateExplanation(tier=_tier_to_wire(one.tier), terms=terms, **plain)


def _tier_of(value: resources_pb2.Tier.ValueType) -> Tier | None:
    return None if value == resources_pb2.TIER_UNSPECIFIED else tier_from_wire(value)


def _tier_to_wire(tier: Tier | None) -> resources_pb2.Tier.ValueType:
    return resources_pb2.TIER_UNSPECIFIED if tier is None else tier_to_wire(tier)
