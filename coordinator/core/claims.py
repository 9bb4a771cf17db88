"""What nodes claim without an order behind it, or beyond what others can confirm. Pure.

A replica is accepted only where its model or adapter is desired, since every replica was ordered:
by the plan, and of external models by a pin. A node that was told to let a model go may report it
for a while, until it has.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.core.table_builder import ReplicaReport

#: How long a replica may be reported after its order was withdrawn: a push, the engine's drain,
#: and a status.
LEAVING_MS = 30_000.0
#: A claim is shown and announced once it has stood for so long: an agent that was cut off reports
#: what it held until it has received its orders.
CONFIRM_MS = 5_000.0
#: A node's claims are announced to operators at most this often.
ANNOUNCE_EVERY_MS = 3_600_000.0
#: Claims shown of one node.
MAX_SHOWN = 8
#: Nodes whose answers one node may complain of in a status.
MAX_COMPLAINTS = 256


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that a node claims; ``kind`` is "replica", "profile" or "usage"."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A node's report: what counts of it, and whether operators are to be told of the rest."""

    accepted: tuple[ReplicaReport, ...]
    #: What has no order, models and ``model+adapter``, each once.
    unordered: tuple[str, ...] = ()
    announce: bool = False


@dataclass(slots=True)
class _NodeClaims:
    ordered: frozenset[str] = frozenset()
    #: model or ``model+adapter`` -> until when it may still be reported
    leaving: dict[str, float] = field(default_factory=dict)
    unordered: tuple[str, ...] = ()
    #: When its claims began and when they were last seen: short gaps do not end them.
    claimed_mono_ms: float = math.inf
    seen_mono_ms: float = -math.inf
    confirmed: bool = False
    announced_mono_ms: float = -math.inf
    #: Figures of its profile that are out of bounds, in words.
    flattery: str = ""
    #: By node: how many of this node's answers claimed more tokens than was possible.
    complaints: dict[str, int] = field(default_factory=dict)


class NodeClaims:
    """The claims of every node since the coordinator's start."""

    def __init__(self) -> None:
        self._nodes: dict[str, _NodeClaims] = {}
        #: By node: of which others it complains.
        self._complains_of: dict[str, frozenset[str]] = {}
        #: Reports of replicas that were dropped.
        self.dropped = 0

    def judge(
        self,
        node_id: str,
        reports: Sequence[ReplicaReport],
        desired: Collection[str],
        now_mono_ms: float,
    ) -> Judged:
        """Return what of a node's report has an order behind it.

        ``desired`` are models and ``model+adapter``.
        """
        node = self._nodes.setdefault(node_id, _NodeClaims())
        for key in node.ordered.difference(desired):
            node.leaving[key] = now_mono_ms + LEAVING_MS
        node.ordered = frozenset(desired)
        node.leaving = {
            key: until
            for key, until in node.leaving.items()
            if until > now_mono_ms and key not in node.ordered
        }
        accepted = tuple(
            one for one in reports if one.key in node.ordered or one.key in node.leaving
        )
        unordered = tuple(sorted({one.key for one in reports} - {one.key for one in accepted}))
        self.dropped += len(set(unordered).difference(node.unordered))
        node.unordered = unordered
        return Judged(accepted, unordered, _is_announced(node, now_mono_ms))

    def expired(self, now_mono_ms: float) -> list[str]:
        """Return the nodes to judge again: a time to leave is over, or a claim has stood."""
        return [
            node_id
            for node_id, node in self._nodes.items()
            if any(until <= now_mono_ms for until in node.leaving.values())
            or (
                node.unordered
                and not node.confirmed
                and now_mono_ms - node.claimed_mono_ms >= CONFIRM_MS
            )
        ]

    def flatters(self, node_id: str, flattery: str) -> bool:
        """Record what of a node's profile is out of bounds; return whether that is new."""
        node = self._nodes.setdefault(node_id, _NodeClaims())
        is_new = bool(flattery) and flattery != node.flattery
        node.flattery = flattery
        return is_new

    def complained(self, by: str, about: Mapping[str, int]) -> None:
        """Replace what node ``by`` says of others: answers with impossible counts of tokens."""
        others = {node_id: count for node_id, count in about.items() if node_id != by and count > 0}
        for node_id in self._complains_of.pop(by, frozenset()).difference(others):
            if (node := self._nodes.get(node_id)) is not None:
                node.complaints.pop(by, None)
        for node_id, count in others.items():
            self._nodes.setdefault(node_id, _NodeClaims()).complaints[by] = count
        if others:
            self._complains_of[by] = frozenset(others)

    def of(self, node_id: str) -> tuple[Claim, ...]:
        """Return the claims of a node, for operators."""
        node = self._nodes.get(node_id)
        if node is None:
            return ()
        claims = [
            Claim("replica", f"claims {key} that it was not ordered")
            for key in node.unordered[: MAX_SHOWN if node.confirmed else 0]
        ]
        if node.confirmed and len(node.unordered) > MAX_SHOWN:
            claims.append(Claim("replica", f"and {len(node.unordered) - MAX_SHOWN} more"))
        if node.flattery:
            claims.append(Claim("profile", f"claims {node.flattery}: no such accelerator can"))
        if node.complaints:
            total, by = sum(node.complaints.values()), sorted(node.complaints)
            more = f" and {len(by) - MAX_SHOWN} more" if len(by) > MAX_SHOWN else ""
            claims.append(
                Claim(
                    "usage",
                    f"claimed more tokens than possible in {total} answers,"
                    f" say {', '.join(by[:MAX_SHOWN])}{more}",
                )
            )
        return tuple(claims)

    def forget_all_but(self, node_ids: Collection[str]) -> None:
        """Drop every node that is not enrolled any more, and its complaints of others."""
        for gone in [by for by in self._complains_of if by not in node_ids]:
            self.complained(gone, {})
        for gone in [node_id for node_id in self._nodes if node_id not in node_ids]:
            del self._nodes[gone]


def _is_announced(node: _NodeClaims, now_mono_ms: float) -> bool:
    """Follow how long a node has claimed something; return whether to tell operators now."""
    if not node.unordered:
        if now_mono_ms - node.seen_mono_ms >= LEAVING_MS:
            node.confirmed = False
        return False
    if now_mono_ms - node.seen_mono_ms >= LEAVING_MS and not node.confirmed:
        node.claimed_mono_ms = now_mono_ms
    node.seen_mono_ms = now_mono_ms
    node.confirmed = node.confirmed or now_mono_ms - node.claimed_mono_ms >= CONFIRM_MS
    if not node.confirmed or now_mono_ms - node.announced_mono_ms < ANNOUNCE_EVERY_MS:
        return False
    node.announced_mono_ms = now_mono_ms
    return True
