"""Traces: fetched from the agents that hold them and merged; the coordinator keeps none."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.rpc.admin_parts import AdminServicerBase
from protos.domain.errors import EdgeForgeError, InvalidRequest, LinkDown, NotFound
from protos.v1 import admin_pb2, fleet_pb2, trace_pb2
from protos.wire import place_in_order

if TYPE_CHECKING:
    from coordinator.fleet.live import LiveNode
    from coordinator.rpc.identity import Context

DEFAULT_TRACES = 20
MAX_TRACES = 500
#: Agents asked for one answer, and how many of them at once.
MAX_AGENTS = 512
_MAX_AT_ONCE = 32
_TIMEOUT_MS = 3_000
_TRACE_ID_CHARS = 32
#: Most agents that an error names as not searched.
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class _Replies:
    """The replies by node, and the nodes that were not searched with the reason."""

    answers: dict[str, fleet_pb2.Answer]
    unsearched: list[admin_pb2.Unsearched]


class TraceAdminServicer(AdminServicerBase):
    """Lists and single traces."""

    async def ListTraces(
        self, request: admin_pb2.ListTracesRequest, context: Context
    ) -> admin_pb2.ListTracesResponse:
        """Merge the lists of all agents; name those that could not be asked."""
        asked = trace_pb2.TraceFilter()
        asked.CopyFrom(request.filter)
        asked.limit = asked.limit or DEFAULT_TRACES
        if asked.limit > MAX_TRACES:
            raise InvalidRequest(f"at most {MAX_TRACES} traces are listed at once", "page on")
        query = fleet_pb2.Query(
            timeout_ms=_TIMEOUT_MS, trace_list=fleet_pb2.TraceListQuery(filter=asked)
        )
        replies = await self._ask_all(request.via, query)
        lists = [answer.trace_list.traces for answer in replies.answers.values()]
        merged = sorted(
            (line for lines in lists for line in lines),
            key=lambda line: place_in_order(line, asked.order),
            reverse=True,
        )
        listed = merged[: asked.limit]
        response = admin_pb2.ListTracesResponse(
            traces=listed, searched=sorted(replies.answers), unsearched=replies.unsearched
        )
        if listed and any(len(lines) >= asked.limit for lines in (merged, *lists)):
            value, trace_id = place_in_order(listed[-1], asked.order)
            response.next.CopyFrom(trace_pb2.TraceCursor(value=value, trace_id=trace_id))
        return response

    async def GetTrace(
        self, request: admin_pb2.GetTraceRequest, context: Context
    ) -> trace_pb2.Trace:
        """Find one trace. Agents that could not be asked are named, since they may hold it."""
        trace_id = _checked_id(request.trace_id)
        query = fleet_pb2.Query(
            timeout_ms=_TIMEOUT_MS, trace_show=fleet_pb2.TraceShowQuery(trace_id=trace_id)
        )
        replies = await self._ask_all(request.via, query)
        for answer in replies.answers.values():
            if answer.trace_shown.HasField("trace"):
                return answer.trace_shown.trace
        searched = ", ".join(sorted(replies.answers)[:_MAX_NAMED]) or "no agent"
        more = len(replies.answers) - _MAX_NAMED
        said = f"trace {trace_id} was not found; searched: {searched}" + _and_more(more)
        if replies.unsearched:
            raise LinkDown(
                f"{said}; not searched: {_named(replies.unsearched)}",
                "a trace is held by the agent that its client reached: ask again when that is back",
            )
        raise NotFound(said, "it may have been too old to be kept: `edgeforge trace ls`")

    async def _ask_all(self, via: str, query: fleet_pb2.Query) -> _Replies:
        """Ask every agent that ``via`` names. Raises: NotFound."""
        connected, unsearched = self._agents_of(via)
        for node_id in connected[MAX_AGENTS:]:
            reason = f"more than {MAX_AGENTS} agents: name a node or a POP"
            unsearched.append(admin_pb2.Unsearched(node_id=node_id, reason=reason))
        gate = asyncio.Semaphore(_MAX_AT_ONCE)

        async def ask(node_id: str) -> tuple[str, fleet_pb2.Answer]:
            async with gate:
                try:
                    return node_id, await self._parts.ask_agent(node_id, query)
                except EdgeForgeError as error:
                    return node_id, fleet_pb2.Answer(error=error.message)

        replies = await asyncio.gather(*map(ask, connected[:MAX_AGENTS]))
        answers = {node_id: answer for node_id, answer in replies if not answer.error}
        unsearched += [
            admin_pb2.Unsearched(node_id=node_id, reason=answer.error)
            for node_id, answer in replies
            if answer.error
        ]
        return _Replies(answers, unsearched)

    def _agents_of(self, via: str) -> tuple[list[str], list[admin_pb2.Unsearched]]:
        """Return the connected nodes that ``via`` names, and the others. Raises: NotFound."""
        records = self._store.node_records()
        if via and via not in records and via not in self._store.view().pops:
            raise NotFound(f"{via[:80]!r} is neither a POP nor a node", "edgeforge node ls")
        connected, unsearched = [], []
        for node_id, record in sorted(records.items()):
            if via not in ("", node_id, record.pop_id):
                continue
            live = self._parts.live.live_node(node_id)
            if live is not None and live.connected:
                connected.append(node_id)
                continue
            reason = f"not connected, {_heard(live)}"
            unsearched.append(admin_pb2.Unsearched(node_id=node_id, reason=reason))
        return connected, unsearched


def _heard(live: LiveNode | None) -> str:
    if live is None or not math.isfinite(live.last_status_age_s):
        return "not heard of since this coordinator started"
    return f"last heard of {live.last_status_age_s:.0f} s ago"


def _checked_id(text: str) -> str:
    """Raises: InvalidRequest."""
    trace_id = text.strip().lower()
    if len(trace_id) != _TRACE_ID_CHARS or not set(trace_id) <= set("0123456789abcdef"):
        raise InvalidRequest(
            f"{text[:80]!r} is no trace id: 32 hexadecimal digits",
            "it is the x-edgeforge-trace-id of the answer",
        )
    return trace_id


def _named(unsearched: Iterable[admin_pb2.Unsearched]) -> str:
    named = [f"{one.node_id} ({one.reason})" for one in unsearched]
    return ", ".join(named[:_MAX_NAMED]) + _and_more(len(named) - _MAX_NAMED)


def _and_more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
