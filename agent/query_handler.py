"""Answers the coordinator's queries, which it makes on behalf of operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.engine.canary import ask_canary
from agent.gateway.explain import explain_route
from agent.link.reports import fault_to_wire
from agent.traces.withholding import lines_for, trace_for
from protos.domain.errors import NoReplica
from protos.v1 import fleet_pb2
from protos.wire import explanation_to_wire

if TYPE_CHECKING:
    from agent.core.engine_status import EngineEndpoint
    from agent.core.request.state import RouterState
    from agent.gpu.watch import GpuWatch
    from agent.peers.probe import Prober
    from agent.traces.keeper import TraceKeeper


@dataclass(frozen=True, slots=True)
class QueryHandler:
    """One case for each query of ``fleet.proto``."""

    state: RouterState
    gpu: GpuWatch
    traces: TraceKeeper
    peers: Prober
    now_mono_ms: Callable[[], float]
    #: Where a model, or an adapter of it, is served on this node now; None: nowhere.
    endpoint_for: Callable[[str, str], EngineEndpoint | None]

    async def answer(self, query: fleet_pb2.Query) -> fleet_pb2.Answer:
        """Return the answer. Raises: EdgeForgeError, whose text is sent instead."""
        match query.WhichOneof("question"):
            case "explain":
                return self._explain(query.explain)
            case "resume":
                return self._resume()
            case "dial":
                return await self._dial(query.dial)
            case "trace_list":
                wanted = query.trace_list.filter
                listed = lines_for(query.asking_zone, await self.traces.listed(wanted), wanted)
                return fleet_pb2.Answer(trace_list=fleet_pb2.TraceList(traces=listed))
            case "trace_show":
                found = await self.traces.found(query.trace_show.trace_id)
                found = trace_for(query.asking_zone, found)
                return fleet_pb2.Answer(trace_shown=fleet_pb2.TraceShown(trace=found))
            case "canary":
                return await self._canary(query.canary, query.timeout_ms)
            case _:
                return fleet_pb2.Answer(error="this agent is too old for the question")

    def _explain(self, query: fleet_pb2.ExplainQuery) -> fleet_pb2.Answer:
        explanation = explain_route(
            self.state,
            query.deployment,
            query.budget_ms,
            query.prompt_tokens,
            self.now_mono_ms(),
        )
        return fleet_pb2.Answer(explanation=explanation_to_wire(explanation))

    async def _dial(self, query: fleet_pb2.DialQuery) -> fleet_pb2.Answer:
        failure = await self.peers.dial(query.node_id, (query.peer_host, query.peer_port))
        return fleet_pb2.Answer(dialled=fleet_pb2.Dialled(failure=failure))

    async def _canary(self, query: fleet_pb2.CanaryQuery, timeout_ms: float) -> fleet_pb2.Answer:
        endpoint = self.endpoint_for(query.model, query.adapter)
        if endpoint is None:
            name = query.adapter or query.model
            raise NoReplica(f"this node serves no {name!r} now", "ask a node that does")
        answered = await ask_canary(
            endpoint,
            query.prompt,
            query.max_tokens,
            timeout_ms,
            self.now_mono_ms,
        )
        return fleet_pb2.Answer(
            canary=fleet_pb2.CanaryAnswer(
                text=answered.text,
                tokens=answered.tokens,
                first_token_ms=answered.first_token_ms,
                tokens_per_s=answered.tokens_per_s,
            )
        )

    def _resume(self) -> fleet_pb2.Answer:
        remaining = [fault_to_wire(fault) for fault in self.gpu.resume()]
        return fleet_pb2.Answer(resumption=fleet_pb2.Resumption(standing=remaining))
