"""Answers the coordinator's queries, which it makes on behalf of operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.gateway.explain import explain_route
from agent.link.reports import fault_to_wire
from protos.v1 import fleet_pb2
from protos.wire import explanation_to_wire

if TYPE_CHECKING:
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
                listed = await self.traces.listed(query.trace_list.filter)
                return fleet_pb2.Answer(trace_list=fleet_pb2.TraceList(traces=listed))
            case "trace_show":
                found = await self.traces.found(query.trace_show.trace_id)
                return fleet_pb2.Answer(trace_shown=fleet_pb2.TraceShown(trace=found))
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

    def _resume(self) -> fleet_pb2.Answer:
        remaining = [fault_to_wire(fault) for fault in self.gpu.resume()]
        return fleet_pb2.Answer(resumption=fleet_pb2.Resumption(standing=remaining))
