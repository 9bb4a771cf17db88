"""How a deployment comes to another version: prepared beside the present one, then switched. Pure.

The row that agents see changes once, when the next version is ready on enough nodes; the one
before is kept until every agent follows the new row, and shortly after, for requests that were
placed by the row before. What is not ready in time is withdrawn. A roll-out is stored, so that a
restarted coordinator continues it from what it then observes.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.resources import Hold, ReplicaState, Residency

if TYPE_CHECKING:
    from protos.domain.resources import Deployment

#: Longest that the version before is kept after the switch, whoever does not follow.
GRACE_MS = 30_000.0
#: How long it is kept once every agent follows: requests that were placed just before arrive.
FOLLOWED_GRACE_MS = 2_000.0
#: How long a change may take to be made ready, unless it says so itself.
PREPARE_TIMEOUT_MS = 3_600_000
#: Bounds of what a change may say.
MIN_TIMEOUT_MS, MAX_TIMEOUT_MS = 1_000, 604_800_000
#: Revisions that are remembered of each deployment.
MAX_REVISIONS = 50


class RolloutPhase(enum.StrEnum):
    """The step that a roll-out has reached."""

    PREPARING = "preparing"
    SETTLING = "settling"


@dataclass(frozen=True, slots=True)
class Revision:
    """One version of a deployment, and who made it when. ``reason``: "create", "update", ..."""

    deployment: Deployment
    by: str
    at_unix_ms: int
    reason: str

    @property
    def number(self) -> int:
        """Counts from 1."""
        return self.deployment.revision


@dataclass(frozen=True, slots=True)
class Rollout:
    """A change under way. ``other`` is the next version, or once settling the one before."""

    phase: RolloutPhase
    other: Deployment
    by: str
    reason: str
    since_unix_ms: int
    #: After this the change is withdrawn, while it is prepared.
    timeout_ms: int = PREPARE_TIMEOUT_MS

    @property
    def until_unix_ms(self) -> int:
        """When it is withdrawn, while it is prepared."""
        return self.since_unix_ms + self.timeout_ms


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The latest change that never happened. ``number`` is the revision that it would have been."""

    number: int
    reason: str
    by: str
    why: str
    at_unix_ms: int


@dataclass(frozen=True, slots=True)
class NodeReadiness:
    """What one node holds of a version. ``hold`` is the plan's; ``state`` None: not reported."""

    node_id: str
    alive: bool
    hold: Hold
    state: ReplicaState | None = None
    residency: Residency = Residency.ORIGIN

    @property
    def serves(self) -> bool:
        """Whether it is in an engine."""
        return self.alive and self.state is ReplicaState.READY

    @property
    def is_ready(self) -> bool:
        """Whether the node has come to what the plan asks of it."""
        on_disk = self.state is ReplicaState.COLD and self.residency in (
            Residency.DEVICE,
            Residency.HOST_MEMORY,
            Residency.DISK,
        )
        return self.serves or (self.alive and on_disk and self.hold is not Hold.HOT)


@dataclass(frozen=True, slots=True)
class Observed:
    """What the nodes hold of the version that is prepared."""

    nodes: Sequence[NodeReadiness]


@dataclass(frozen=True, slots=True)
class Followed:
    """Every agent that may place requests has had the row since then; None: not yet."""

    since_unix_ms: int | None


Event = Observed | Followed


@dataclass(frozen=True, slots=True)
class Switch:
    """Write the next version as the row, and keep the one before for a grace."""


@dataclass(frozen=True, slots=True)
class Release:
    """Let the version before go; the roll-out is done."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Forget the next version: it was not ready in time. The present one goes on."""


Command = Switch | Release | Withdraw


def changes_weights(present: Deployment, following: Deployment) -> bool:
    """Return whether the next version must be made ready: it is served by other weights."""
    return (present.model, present.adapter, present.runtime) != (
        following.model,
        following.adapter,
        following.runtime,
    )


def handle(rollout: Rollout, event: Event, now_unix_ms: int) -> list[Command]:
    """Return what is due."""
    if rollout.phase is RolloutPhase.PREPARING:
        if isinstance(event, Observed) and is_enough(event.nodes):
            return [Switch()]
        return [Withdraw()] if now_unix_ms >= rollout.until_unix_ms else []
    followed_unix_ms = event.since_unix_ms if isinstance(event, Followed) else None
    is_followed = (
        followed_unix_ms is not None and now_unix_ms - followed_unix_ms >= FOLLOWED_GRACE_MS
    )
    if is_followed or now_unix_ms - rollout.since_unix_ms >= GRACE_MS:
        return [Release()]
    return []


def is_enough(nodes: Sequence[NodeReadiness]) -> bool:
    """Return whether a version may be switched to.

    Half of the living nodes that are to hold it have come to that, and one serves it if any is to.
    """
    asked = [one for one in nodes if one.alive and one.hold is not Hold.ON_DEMAND]
    if not asked:
        return any(one.is_ready for one in nodes)
    if any(one.hold is Hold.HOT for one in asked) and not any(one.serves for one in asked):
        return False
    return 2 * sum(one.is_ready for one in asked) >= len(asked)
