"""Node health from leases, which status reports renew, and from the probes of peers.

A node that misses a few reports is suspect and still routable: the fault may be on the way to the
coordinator. A peer's fresh failed probe makes a suspect node unroutable; when the node's stream
ended before that probe, as when a process dies, it does so at once. Only the end of its lease makes
a node dead. No health gets worse while a large part of the fleet is missing at once, because then
the coordinator's own network is the likelier fault. Laws: no death before the lease ends; death
within the bound (lease plus one tick); a late status is always safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from protos.domain.resources import NodeHealth


@dataclass(frozen=True, slots=True)
class DetectorPolicy:
    """See ``[health]`` of the coordinator's configuration."""

    status_interval_ms: float = 2_000.0
    suspect_after_misses: int = 3
    lease_ms: float = 30_000.0
    probe_fresh_ms: float = 6_000.0
    freeze_share: float = 0.30
    freeze_min_nodes: int = 10
    #: Longest pause of an agent between two attempts to connect: after a restart of the coordinator
    #: silence counts from the end of this pause.
    reconnect_ms: float = 60_000.0

    @property
    def suspect_ms(self) -> float:
        """Silence that makes a node suspect."""
        return self.status_interval_ms * self.suspect_after_misses


@dataclass(frozen=True, slots=True)
class NodeListed:
    """A node is in the table with this ``health``. Nothing changes for a node already listed.

    ``returning``: the coordinator has just started and the node may not have reconnected yet.
    """

    node_id: str
    health: NodeHealth
    returning: bool = False


@dataclass(frozen=True, slots=True)
class NodeUnlisted:
    """A node was removed from the table."""

    node_id: str


@dataclass(frozen=True, slots=True)
class StatusReceived:
    """A node reported. ``reachable`` maps the peers it probes to whether they answered."""

    node_id: str
    reachable: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """A node's stream has ended; the node may still be alive."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class FreezeLifted:
    """An operator confirms that the missing nodes are really gone."""


Event = NodeListed | NodeUnlisted | StatusReceived | StreamEnded | Ticked | FreezeLifted


@dataclass(frozen=True, slots=True)
class SetHealth:
    """Write a node's new health into the table."""

    node_id: str
    health: NodeHealth


@dataclass(frozen=True, slots=True)
class RaiseFreezeAlarm:
    """Too many nodes are missing at once; no health gets worse until the freeze ends."""

    missing: int
    fleet: int


@dataclass(frozen=True, slots=True)
class ClearFreezeAlarm:
    """The freeze has ended."""

    missing: int
    by_operator: bool


Command = SetHealth | RaiseFreezeAlarm | ClearFreezeAlarm


@dataclass(slots=True)
class _Lease:
    """One node. ``heard_mono_ms``: its last status, or the start of its lease, maybe ahead."""

    heard_mono_ms: float
    health: NodeHealth
    #: Its operator has confirmed that it is gone: it no longer counts towards a freeze.
    written_off: bool = False
    #: prober -> when its failed, or successful, probe was reported
    failed_mono_ms: dict[str, float] = field(default_factory=dict)
    answered_mono_ms: dict[str, float] = field(default_factory=dict)


class FailureDetector:
    """Decides each node's health. One instance for a fleet; times must not decrease."""

    def __init__(self, policy: DetectorPolicy, now_mono_ms: float) -> None:
        self._policy = policy
        self._leases: dict[str, _Lease] = {}
        self._ticked_mono_ms = now_mono_ms
        #: Nodes whose stream has ended, and when; removed at their next status or when dead.
        self._hung_up_mono_ms: dict[str, float] = {}
        self.frozen = False

    def handle(self, event: Event, now_mono_ms: float) -> list[Command]:
        """Apply ``event`` and return the commands, at most one SetHealth for each node."""
        match event:
            case NodeListed(node_id, health, returning):
                if node_id not in self._leases:
                    grace_ms = self._policy.reconnect_ms if returning else 0.0
                    self._leases[node_id] = _Lease(now_mono_ms + grace_ms, health)
                return []
            case NodeUnlisted(node_id):
                self._forget(node_id)
                return []
            case StreamEnded(node_id):
                if node_id in self._leases:
                    self._hung_up_mono_ms[node_id] = now_mono_ms
                return []
            case StatusReceived(node_id, reachable):
                return self._on_status(node_id, reachable, now_mono_ms)
            case Ticked():
                return self._on_tick(now_mono_ms)
            case FreezeLifted():
                return self._on_lifted(now_mono_ms)

    def next_deadline_ms(self) -> float | None:
        """Return when the next tick can change anything, None if no tick can."""
        deadlines = [
            lease.heard_mono_ms + silence_ms
            for lease in self._leases.values()
            if (silence_ms := self._next_silence_ms(lease)) is not None
        ]
        return min(deadlines, default=None)

    def health_of(self, node_id: str) -> NodeHealth | None:
        """Return the health of a listed node."""
        lease = self._leases.get(node_id)
        return lease.health if lease else None

    def healths(self) -> dict[str, NodeHealth]:
        """Return the health of every listed node."""
        return {node_id: lease.health for node_id, lease in self._leases.items()}

    def _forget(self, node_id: str) -> None:
        """Drop a node, and what it said about others."""
        self._leases.pop(node_id, None)
        self._hung_up_mono_ms.pop(node_id, None)
        for lease in self._leases.values():
            lease.failed_mono_ms.pop(node_id, None)
            lease.answered_mono_ms.pop(node_id, None)

    def _on_status(
        self, node_id: str, reachable: Mapping[str, bool], now_mono_ms: float
    ) -> list[Command]:
        reporter = self._leases.get(node_id)
        if reporter is None:
            return []
        reporter.heard_mono_ms = now_mono_ms
        reporter.written_off = False
        self._hung_up_mono_ms.pop(node_id, None)
        reporter.failed_mono_ms.clear()
        reporter.answered_mono_ms.clear()
        commands = self._set(node_id, reporter, NodeHealth.READY)
        for peer_id, answered in reachable.items():
            if peer_id != node_id and (peer := self._leases.get(peer_id)) is not None:
                said, unsaid = peer.failed_mono_ms, peer.answered_mono_ms
                if answered:
                    said, unsaid = unsaid, said
                said[node_id] = now_mono_ms
                unsaid.pop(node_id, None)
                commands += self._second(peer_id, peer, now_mono_ms)
        return commands

    def _second(self, node_id: str, lease: _Lease, now_mono_ms: float) -> list[Command]:
        """Update a node that a peer has just failed to reach; only ticks decide death."""
        if self._is_gone(node_id, lease):
            return self._set(node_id, lease, NodeHealth.UNROUTABLE)
        if lease.health not in (NodeHealth.SUSPECT, NodeHealth.UNROUTABLE):
            return []
        health = self._judged(lease, now_mono_ms)
        return [] if health is NodeHealth.DEAD else self._set(node_id, lease, health)

    def _is_gone(self, node_id: str, lease: _Lease) -> bool:
        """Whether its stream ended and a peer has failed to reach it since.

        False while so many streams have ended that the coordinator's network is the likelier fault.
        """
        hung_up = self._hung_up_mono_ms
        since_mono_ms = hung_up.get(node_id)
        if since_mono_ms is None or self.frozen or lease.health is NodeHealth.DEAD:
            return False
        most = max(self._policy.freeze_min_nodes, self._policy.freeze_share * len(self._leases))
        if len(hung_up) >= most:
            return False
        return any(at > since_mono_ms for at in lease.failed_mono_ms.values())

    def _on_tick(self, now_mono_ms: float) -> list[Command]:
        self._forgive_own_stall(now_mono_ms)
        commands = self._judge_freeze(now_mono_ms)
        for node_id, lease in self._leases.items():
            commands += self._set(node_id, lease, self._judged(lease, now_mono_ms))
        return commands

    def _forgive_own_stall(self, now_mono_ms: float) -> None:
        """Extend every lease by the time in which this process did not run."""
        deaf_ms = now_mono_ms - self._ticked_mono_ms
        self._ticked_mono_ms = now_mono_ms
        if deaf_ms >= self._policy.suspect_ms:
            for lease in self._leases.values():
                forgiven_mono_ms = min(now_mono_ms, lease.heard_mono_ms + deaf_ms)
                lease.heard_mono_ms = max(lease.heard_mono_ms, forgiven_mono_ms)

    def _judge_freeze(self, now_mono_ms: float) -> list[Command]:
        missing = self._missing(now_mono_ms)
        fleet = sum(
            lease.health is not NodeHealth.DEAD and not lease.written_off
            for lease in self._leases.values()
        )
        too_many = len(missing) > self._policy.freeze_share * fleet
        if not self.frozen:
            if len(missing) >= self._policy.freeze_min_nodes and too_many:
                self.frozen = True
                return [RaiseFreezeAlarm(len(missing), fleet)]
            return []
        # Hysteresis, since nodes reconnect over a minute: ends at half of the share that began it.
        back = len(missing) * 2 <= self._policy.freeze_share * fleet
        if not back and len(missing) >= self._policy.freeze_min_nodes:
            return []
        self.frozen = False
        for lease in missing:
            lease.heard_mono_ms = now_mono_ms
        return [ClearFreezeAlarm(len(missing), by_operator=False)]

    def _on_lifted(self, now_mono_ms: float) -> list[Command]:
        if not self.frozen:
            return []
        missing = self._missing(now_mono_ms)
        for lease in missing:
            lease.written_off = True
        self.frozen = False
        return [ClearFreezeAlarm(len(missing), by_operator=True)]

    def _missing(self, now_mono_ms: float) -> list[_Lease]:
        """Return the silent nodes that are neither dead nor confirmed as gone."""
        return [
            lease
            for lease in self._leases.values()
            if lease.health is not NodeHealth.DEAD
            and not lease.written_off
            and now_mono_ms - lease.heard_mono_ms >= self._policy.suspect_ms
        ]

    def _judged(self, lease: _Lease, now_mono_ms: float) -> NodeHealth:
        """Return the health of a node from its silence and its peers' probes."""
        silence_ms = now_mono_ms - lease.heard_mono_ms
        if lease.health is NodeHealth.DEAD or silence_ms < self._policy.suspect_ms:
            return lease.health  # only a status makes it better
        if self.frozen:
            return NodeHealth.SUSPECT if lease.health is NodeHealth.READY else lease.health
        if silence_ms >= self._policy.lease_ms:
            return NodeHealth.DEAD
        if self._any_fresh(lease.failed_mono_ms, now_mono_ms):
            return NodeHealth.UNROUTABLE
        if self._any_fresh(lease.answered_mono_ms, now_mono_ms):
            return NodeHealth.SUSPECT
        # No fresh probe: the health stays.
        return NodeHealth.SUSPECT if lease.health is NodeHealth.READY else lease.health

    def _any_fresh(self, reports_mono_ms: Mapping[str, float], now_mono_ms: float) -> bool:
        since_mono_ms = now_mono_ms - self._policy.probe_fresh_ms
        return any(at >= since_mono_ms for at in reports_mono_ms.values())

    def _next_silence_ms(self, lease: _Lease) -> float | None:
        """Return after which silence a tick would change this node, None if none would."""
        if lease.health is NodeHealth.DEAD:
            return None
        if lease.health is NodeHealth.READY:
            return self._policy.suspect_ms
        return None if self.frozen else self._policy.lease_ms

    def _set(self, node_id: str, lease: _Lease, health: NodeHealth) -> list[Command]:
        if lease.health is health:
            return []
        lease.health = health
        if health is NodeHealth.DEAD:
            self._hung_up_mono_ms.pop(node_id, None)
        return [SetHealth(node_id, health)]
