"""Traces: fetched from the agents that hold them and merged; the coordinator keeps none."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, named, use_case
from protos.domain.errors import EdgeForgeError, InvalidRequest, LinkDown, NotFound

if TYPE_CHECKING:
    from coordinator.fleet.live import LiveNode
    from coordinator.operations.actor import Actor
    from coordinator.operations.agents import TraceFilter, TraceLine, TracePlace
    from protos.domain.trace import Trace

DEFAULT_TRACES = 20
MAX_TRACES = 500
#: Agents asked for one answer, and how many of them at once.
MAX_AGENTS = 512
_MAX_AT_ONCE = 32
_TRACE_ID_CHARS = 32
#: Most agents that an error names as not searched.
_MAX_NAMED = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unsearched:
    """A node whose traces are not in the answer, and why."""

    node_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class TracePage:
    """Traces in order, and where the next page begins; None: there are no more."""

    traces: Sequence[TraceLine]
    after: TracePlace | None
    searched: Sequence[str]
    unsearched: Sequence[Unsearched]


@dataclass(frozen=True, slots=True)
class _Replies(Generic[T]):
    """The replies by node, and the nodes that were not searched with the reason."""

    answers: Mapping[str, T]
    unsearched: Sequence[Unsearched]


class Traces(UseCases):
    """Lists and single traces."""

    @use_case(Act.TRACE_LIST)
    async def list_page(self, actor: Actor, asked: TraceFilter, via: str = "") -> TracePage:
        """Merge the lists of all agents of ``via``, a node or a POP; empty: of the fleet.

        Names those that could not be asked. Raises: InvalidRequest, NotFound.
        """
        limit = asked.limit or DEFAULT_TRACES
        if limit > MAX_TRACES:
            raise InvalidRequest(f"at most {MAX_TRACES} traces are listed at once", "page on")
        asked = replace(asked, limit=limit, account=actor.account_id or asked.account)
        agents = self._parts.agents
        replies = await self._ask_all(via, lambda node_id: agents.list_traces(node_id, asked))
        found = [_of_account(one, asked.account) for one in replies.answers.values()]
        traces, after = merged(found, limit)
        return TracePage(traces, after, sorted(replies.answers), replies.unsearched)

    @use_case(Act.TRACE_SHOW, named("trace"))
    async def find(self, actor: Actor, trace_id: str, via: str = "") -> Trace:
        """Find one trace. Agents that could not be asked are named, since they may hold it.

        Raises: InvalidRequest, NotFound, LinkDown.
        """
        trace_id = _checked_id(trace_id)
        agents = self._parts.agents
        replies = await self._ask_all(via, lambda node_id: agents.find_trace(node_id, trace_id))
        for found in replies.answers.values():
            if found is not None and (actor.role is not None or found.account == actor.account_id):
                return found
        if actor.role is None:
            raise _not_found_for_account(trace_id, complete=not replies.unsearched)
        searched = ", ".join(sorted(replies.answers)[:_MAX_NAMED]) or "no agent"
        more = len(replies.answers) - _MAX_NAMED
        said = f"trace {trace_id} was not found; searched: {searched}" + _and_more(more)
        if replies.unsearched:
            raise LinkDown(
                f"{said}; not searched: {_named(replies.unsearched)}",
                "a trace is held by the agent that its client reached: ask again when that is back",
            )
        raise NotFound(said, "it may have been too old to be kept: `edgeforge trace ls`")

    async def _ask_all(self, via: str, question: Callable[[str], Awaitable[T]]) -> _Replies[T]:
        """Ask every agent that ``via`` names. Raises: NotFound."""
        connected, unsearched = self._agents_of(via)
        for node_id in connected[MAX_AGENTS:]:
            reason = f"more than {MAX_AGENTS} agents: name a node or a POP"
            unsearched.append(Unsearched(node_id, reason))
        gate = asyncio.Semaphore(_MAX_AT_ONCE)
        answers: dict[str, T] = {}
        failed: dict[str, str] = {}

        async def ask(node_id: str) -> None:
            async with gate:
                try:
                    answers[node_id] = await question(node_id)
                except EdgeForgeError as error:
                    failed[node_id] = error.message

        await asyncio.gather(*map(ask, connected[:MAX_AGENTS]))
        unsearched += [Unsearched(node_id, reason) for node_id, reason in sorted(failed.items())]
        return _Replies(answers, unsearched)

    def _agents_of(self, via: str) -> tuple[list[str], list[Unsearched]]:
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
            unsearched.append(Unsearched(node_id, f"not connected, {_heard(live)}"))
        return connected, unsearched


def _not_found_for_account(trace_id: str, *, complete: bool) -> EdgeForgeError:
    """Return the error for a customer, who is not told which nodes there are."""
    if complete:
        return NotFound(f"trace {trace_id} was not found", "it may have been too old to be kept")
    return LinkDown(
        f"trace {trace_id} was not found, and not every node could be asked", "ask again later"
    )


def _of_account(lines: Sequence[TraceLine], account_id: str) -> Sequence[TraceLine]:
    """Return an account's traces: an agent of an earlier version does not know the filter."""
    return [one for one in lines if account_id in ("", one.account)]


def merged(
    lists: Iterable[Sequence[TraceLine]], limit: int
) -> tuple[Sequence[TraceLine], TracePlace | None]:
    """Return the first ``limit`` traces of all lists, and where the next page begins."""
    lists = list(lists)
    lines = sorted(
        (line for one in lists for line in one), key=lambda line: line.place, reverse=True
    )
    listed = lines[:limit]
    more = any(len(one) >= limit for one in (lines, *lists))
    return listed, listed[-1].place if listed and more else None


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


def _named(unsearched: Sequence[Unsearched]) -> str:
    named_ones = [f"{one.node_id} ({one.reason})" for one in unsearched]
    return ", ".join(named_ones[:_MAX_NAMED]) + _and_more(len(named_ones) - _MAX_NAMED)


def _and_more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
