"""What one connected agent is sent, and when: a machine for each stream.

It tracks what the agent holds (Hello, Ack, Nack) and what it should hold (TableChanged), and keeps
at most one un-acknowledged push for each type; changes coalesce behind it. Laws: never two
un-acknowledged pushes of one type; whichever messages are lost, both sides converge; a version
that the agent has refused for good is not sent again.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from protos.domain.routing_table import RefusalReason, TableVersion

if TYPE_CHECKING:
    from protos.domain.resources import ResourceType

#: Snapshots of one version that may be refused for a gap or a digest before no more are sent.
MAX_SNAPSHOT_RETRIES = 2


@dataclass(frozen=True, slots=True)
class Holding:
    """A table's identity: what an agent holds, or should hold. ``digest`` None: not known."""

    at: TableVersion
    digest: int | None


NOTHING = Holding(TableVersion(0, 0), 0)


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """The stream has opened. Types that ``have`` lacks are held at version zero."""

    have: Mapping[ResourceType, Holding]


@dataclass(frozen=True, slots=True)
class TableChanged:
    """The agent should hold ``table`` now. A version older than the known one is ignored."""

    type: ResourceType
    table: Holding


@dataclass(frozen=True, slots=True)
class Forced:
    """An operator asks that the present table be accepted in spite of the shrink guard."""

    type: ResourceType


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push leading to ``at`` was written; the agent's time to answer begins now."""

    type: ResourceType
    nonce: int
    at: TableVersion


@dataclass(frozen=True, slots=True)
class Acked:
    """The agent holds ``at`` now."""

    type: ResourceType
    nonce: int
    at: TableVersion


@dataclass(frozen=True, slots=True)
class Nacked:
    """The agent refused a push and still holds ``have``."""

    type: ResourceType
    nonce: int
    reason: RefusalReason
    detail: str
    have: Holding


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed."""


Event = HelloReceived | TableChanged | Forced | Pushed | Acked | Nacked | Ticked


@dataclass(frozen=True, slots=True)
class SendSnapshot:
    """Send the whole present table."""

    type: ResourceType
    nonce: int
    forced: bool = False


@dataclass(frozen=True, slots=True)
class SendDelta:
    """Send the delta from ``from_version`` to the present table, or a snapshot if there is none.

    The nonce is the same for both.
    """

    type: ResourceType
    nonce: int
    from_version: int


class AlarmKind(enum.StrEnum):
    """Kinds of what an operator should look at."""

    AGENT_AHEAD = "agent_ahead"
    TABLE_REFUSED = "table_refused"
    DIGEST_MISMATCH = "digest_mismatch"


@dataclass(frozen=True, slots=True)
class Alarm:
    """Raised once for each cause."""

    kind: AlarmKind
    type: ResourceType
    detail: str


@dataclass(frozen=True, slots=True)
class Disconnect:
    """End the stream because the agent does not answer; it reconnects with a Hello."""

    reason: str


Command = SendSnapshot | SendDelta | Alarm | Disconnect


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A push neither acknowledged nor refused; it has no deadline until it was written."""

    nonce: int
    target: TableVersion
    snapshot: bool
    forced: bool
    deadline_mono_ms: float | None = None


@dataclass(slots=True)
class _Stream:
    """One type's state."""

    have: Holding
    table: Holding
    in_flight: _InFlight | None = None
    wants_snapshot: bool = False
    forced: bool = False
    #: The agent has refused versions up to this one for good.
    stopped_at: TableVersion | None = None
    snapshot_retries: int = 0
    ahead_told: TableVersion | None = None


class PushSession:
    """One agent's stream. Created when it opens, with the tables that the agent should hold."""

    def __init__(
        self,
        tables: Mapping[ResourceType, Holding],
        *,
        push_timeout_ms: float,
        first_nonce: int = 1,
    ) -> None:
        self._streams = {type_: _Stream(NOTHING, table) for type_, table in tables.items()}
        self._push_timeout_ms = push_timeout_ms
        self._next_nonce = first_nonce
        self._open = False

    def handle(self, event: Event, now_mono_ms: float) -> list[Command]:
        """Apply ``event`` and return the commands."""
        match event:
            case HelloReceived(have):
                self._open = True
                for type_, stream in self._streams.items():
                    stream.have = have.get(type_, NOTHING)
                return self._next(self._streams)
            case TableChanged(type_, table):
                if table.at >= self._streams[type_].table.at:
                    self._streams[type_].table = table
                return self._next((type_,))
            case Forced(type_):
                self._streams[type_].forced = True
                return self._next((type_,))
            case Pushed():
                return self._on_pushed(event, now_mono_ms)
            case Acked():
                return self._on_ack(event)
            case Nacked():
                return self._on_nack(event)
            case Ticked():
                return self._on_tick(now_mono_ms)

    def next_deadline_ms(self) -> float | None:
        """Return when an un-acknowledged push times out, None if there is none."""
        return min(
            (
                stream.in_flight.deadline_mono_ms
                for stream in self._streams.values()
                if stream.in_flight and stream.in_flight.deadline_mono_ms is not None
            ),
            default=None,
        )

    @property
    def converged(self) -> bool:
        """Whether the agent has acknowledged the present version of every table."""
        return self._open and all(
            stream.in_flight is None and not stream.forced and stream.have.at == stream.table.at
            for stream in self._streams.values()
        )

    def holding(self, resource_type: ResourceType) -> Holding:
        """Return what the agent last reported to hold."""
        return self._streams[resource_type].have

    def _on_pushed(self, pushed: Pushed, now_mono_ms: float) -> list[Command]:
        stream = self._streams[pushed.type]
        if stream.in_flight is not None and stream.in_flight.nonce == pushed.nonce:
            stream.in_flight = replace(
                stream.in_flight,
                target=pushed.at,
                deadline_mono_ms=now_mono_ms + self._push_timeout_ms,
            )
        return []

    def _on_ack(self, ack: Acked) -> list[Command]:
        stream = self._streams.get(ack.type)
        if stream is None or stream.in_flight is None or stream.in_flight.nonce != ack.nonce:
            return []
        stream.in_flight = None
        # The agent has checked the digest before it acknowledged.
        stream.have = Holding(ack.at, None)
        stream.snapshot_retries = 0
        return self._next((ack.type,))

    def _on_nack(self, nack: Nacked) -> list[Command]:
        stream = self._streams.get(nack.type)
        if stream is None or stream.in_flight is None or stream.in_flight.nonce != nack.nonce:
            return []
        refused = stream.in_flight
        stream.in_flight = None
        stream.have = nack.have
        if nack.reason.wants_snapshot:
            stream.snapshot_retries += refused.snapshot
            if stream.snapshot_retries <= MAX_SNAPSHOT_RETRIES:
                stream.wants_snapshot = True
                stream.forced = stream.forced or refused.forced
                return self._next((nack.type,))
        stream.stopped_at = max(refused.target, stream.stopped_at or refused.target)
        stream.snapshot_retries = 0
        stream.wants_snapshot = nack.reason.wants_snapshot
        detail = f"version={_text(refused.target)} reason={nack.reason} {nack.detail}".rstrip()
        return [
            Alarm(AlarmKind.TABLE_REFUSED, nack.type, detail),
            *self._next((nack.type,)),
        ]

    def _on_tick(self, now_mono_ms: float) -> list[Command]:
        for type_, stream in self._streams.items():
            push = stream.in_flight
            if push is None or push.deadline_mono_ms is None:
                continue
            if now_mono_ms >= push.deadline_mono_ms:
                stream.in_flight = None
                self._open = False
                return [Disconnect(f"no answer to a push of {type_} at {_text(push.target)}")]
        return []

    def _next(self, types: Iterable[ResourceType]) -> list[Command]:
        if not self._open:
            return []
        commands: list[Command] = []
        for type_ in types:
            commands += self._next_of(type_, self._streams[type_])
        return commands

    def _next_of(self, type_: ResourceType, stream: _Stream) -> list[Command]:
        """Return what this type needs now: a push, an alarm, or nothing."""
        have, table = stream.have, stream.table
        if stream.in_flight is not None:
            return []
        if have.at > table.at:
            return self._alarm_ahead(type_, stream)
        if stream.forced:
            return [self._push(type_, stream, None)]
        if stream.stopped_at is not None and table.at <= stream.stopped_at:
            return []
        if have.at == table.at:
            if have.digest is None or table.digest is None or have.digest == table.digest:
                stream.wants_snapshot = False
                return []
            alarm = Alarm(
                AlarmKind.DIGEST_MISMATCH, type_, f"same version {_text(have.at)}, other rows"
            )
            return [alarm, self._push(type_, stream, None)]
        if stream.wants_snapshot or have.at.epoch != table.at.epoch:
            return [self._push(type_, stream, None)]
        return [self._push(type_, stream, have.at.version)]

    def _alarm_ahead(self, type_: ResourceType, stream: _Stream) -> list[Command]:
        """Raise an alarm: the agent holds a version never written here, as after a restore."""
        if stream.ahead_told == stream.have.at:
            return []
        stream.ahead_told = stream.have.at
        detail = f"agent={_text(stream.have.at)} present={_text(stream.table.at)}"
        return [Alarm(AlarmKind.AGENT_AHEAD, type_, detail)]

    def _push(
        self, type_: ResourceType, stream: _Stream, from_version: int | None
    ) -> SendSnapshot | SendDelta:
        nonce = self._next_nonce
        self._next_nonce += 1
        stream.in_flight = _InFlight(
            nonce=nonce,
            target=stream.table.at,
            snapshot=from_version is None,
            forced=stream.forced,
        )
        forced, stream.forced = stream.forced, False
        if from_version is None:
            stream.wants_snapshot = False
            return SendSnapshot(type_, nonce, forced)
        return SendDelta(type_, nonce, from_version)


def _text(at: TableVersion) -> str:
    return f"{at.epoch}.{at.version}"
