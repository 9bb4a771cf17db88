"""Orders that hold for a node until it is resumed, and the intent that all agents see."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from protos.domain.resources import NodeIntent

#: Author of an order that follows from a fault.
BY_HEALTH = "coordinator"
#: Agents learn of a drain by table or probe; until then they may still send something.
SETTLE_MS = 3_000.0


class OrderKind(enum.StrEnum):
    """What was ordered."""

    CORDON = "cordon"
    DRAIN = "drain"
    RETIRE = "retire"


class Phase(enum.StrEnum):
    """The step that a retirement has reached."""

    MOVING = "moving"
    DRAINING = "draining"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Move:
    """The target of a deployment pinned to a retiring node; ``node_id`` is empty while none."""

    deployment: str
    model: str
    node_id: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NodeOrder:
    """Holds until an operator resumes the node. ``at_unix_ms``: of the order or of its phase."""

    kind: OrderKind
    by: str
    reason: str
    at_unix_ms: int
    phase: Phase | None = None
    moves: tuple[Move, ...] = ()
    force: bool = False


@dataclass(frozen=True, slots=True)
class NodeFault:
    """A fault of an accelerator as its agent reports it."""

    detail: str
    fatal: bool
    latched: bool


@dataclass(frozen=True, slots=True)
class NodeCondition:
    """What a node last reported about itself."""

    draining: bool = False
    draining_reason: str = ""
    faults: tuple[NodeFault, ...] = ()
    engine_in_flight: int = 0
    #: Names of its accelerators, as their driver reports them.
    accelerators: tuple[str, ...] = ()
    #: Of the disk of models; 0: not known.
    disk_quota_bytes: int = 0


def intent_of(
    order: NodeOrder | None, condition: NodeCondition | None, present: NodeIntent
) -> tuple[NodeIntent, str]:
    """Return a node's intent and why.

    ``condition`` is None for a node that has not reported yet: its present intent stays.
    """
    if order is not None and order.phase is Phase.RETIRED:
        return NodeIntent.RETIRED, _said(order)
    if order is not None and (order.kind is OrderKind.DRAIN or order.phase is Phase.DRAINING):
        return NodeIntent.DRAINING, _said(order)
    if condition is not None and condition.draining:
        return NodeIntent.DRAINING, condition.draining_reason
    if order is not None:
        return NodeIntent.CORDONED, _said(order)
    if condition is None and present is NodeIntent.DRAINING:
        return NodeIntent.DRAINING, "it drained itself when it was last heard"
    return NodeIntent.ACTIVE, ""


def order_after_faults(
    order: NodeOrder | None, faults: Iterable[NodeFault], now_unix_ms: int
) -> NodeOrder | None:
    """Return the order in force once ``faults`` are known: a fatal hardware fault drains."""
    if order is not None and order.kind is not OrderKind.CORDON:
        return order
    details = [one.detail for one in faults if one.fatal and one.latched]
    if not details:
        return order
    more = f" and {len(details) - 1} more" if len(details) > 1 else ""
    return NodeOrder(OrderKind.DRAIN, BY_HEALTH, details[0] + more, now_unix_ms)


def retirement_after(
    order: NodeOrder,
    moves: tuple[Move, ...],
    *,
    all_ready: bool,
    engine_in_flight: int | None,
    dead: bool,
    now_unix_ms: int,
) -> NodeOrder:
    """Return the next state of a retirement; the same one when nothing is due.

    ``all_ready``: every move has its replica ready elsewhere. ``engine_in_flight`` is None until
    the node has reported.
    """
    if order.phase is Phase.MOVING:
        moved = replace(order, moves=moves)
        if all_ready or order.force:
            return replace(moved, phase=Phase.DRAINING, at_unix_ms=now_unix_ms)
        return moved
    settled = now_unix_ms - order.at_unix_ms >= SETTLE_MS
    if order.phase is Phase.DRAINING and (dead or (settled and engine_in_flight == 0)):
        return replace(order, phase=Phase.RETIRED, at_unix_ms=now_unix_ms)
    return order


def _said(order: NodeOrder) -> str:
    if order.kind is OrderKind.RETIRE:
        doing = {
            Phase.MOVING: "retiring: its replicas move first",
            Phase.DRAINING: "retiring: it drains",
            Phase.RETIRED: "retired",
        }[order.phase or Phase.MOVING]
        return f"{doing} ({order.reason})" if order.reason else doing
    done = "cordoned" if order.kind is OrderKind.CORDON else "drained"
    who = order.by.rpartition("/")[2]
    if order.by == BY_HEALTH:
        return order.reason
    return f"{done} by {who}" + (f": {order.reason}" if order.reason else "")
