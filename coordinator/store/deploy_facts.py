"""Facts about deploys and the replica plan: histories, changes under way, operators' rules."""

from __future__ import annotations

import json
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any, ClassVar

from coordinator.core.plan_input import PlanRules, Rule
from coordinator.core.rollout import PREPARE_TIMEOUT_MS, Revision, Rollout, RolloutPhase, Withdrawn
from coordinator.store.fact_types import FactType
from protos.domain.resources import Deployment, SlaTier

#: The only key of the fact.
PLAN_KEY = "plan"


@dataclass(frozen=True, slots=True)
class PlanRulesRow:
    """The rules; there is one such fact."""

    TYPE: ClassVar = FactType.PLAN_RULES

    rules: PlanRules

    @property
    def key(self) -> str:
        """Always the same."""
        return PLAN_KEY

    def encode(self) -> bytes:
        """Return the payload."""
        value = {
            "pins": [asdict(one) for one in self.rules.pins],
            "forbids": [asdict(one) for one in self.rules.forbids],
            "frozen": dict(self.rules.frozen),
        }
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, key: str, payload: bytes) -> PlanRulesRow:
        """Return the fact in ``payload``."""
        value = json.loads(payload)
        return cls(
            PlanRules(
                tuple(Rule(**one) for one in value["pins"]),
                tuple(Rule(**one) for one in value["forbids"]),
                value["frozen"],
            )
        )


@dataclass(frozen=True, slots=True)
class DeployRecord:
    """What is remembered of a deployment beside its row; revisions are oldest first."""

    TYPE: ClassVar = FactType.DEPLOY

    name: str
    revisions: tuple[Revision, ...] = ()
    rollout: Rollout | None = None
    withdrawn: Withdrawn | None = None

    @property
    def key(self) -> str:
        """The deployment's name."""
        return self.name

    def encode(self) -> bytes:
        """Return the payload."""
        rollout = self.rollout
        value = {
            "revisions": [
                [_plain(one.deployment), one.by, one.at_unix_ms, one.reason]
                for one in self.revisions
            ],
            "rollout": rollout
            and [
                rollout.phase,
                _plain(rollout.other),
                rollout.by,
                rollout.reason,
                rollout.since_unix_ms,
                rollout.timeout_ms,
            ],
            "withdrawn": self.withdrawn and list(astuple(self.withdrawn)),
        }
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, key: str, payload: bytes) -> DeployRecord:
        """Return the fact in ``payload``."""
        value = json.loads(payload)
        revisions = tuple(
            Revision(_deployment(one), by, at_unix_ms, reason)
            for one, by, at_unix_ms, reason in value["revisions"]
        )
        rollout = None
        if value["rollout"]:
            phase, other, by, reason, since_unix_ms, *timeout_ms = value["rollout"]
            rollout = Rollout(
                RolloutPhase(phase),
                _deployment(other),
                by,
                reason,
                since_unix_ms,
                # Facts of before changes had one.
                *(timeout_ms or (PREPARE_TIMEOUT_MS,)),
            )
        withdrawn = value.get("withdrawn")
        return cls(key, revisions, rollout, Withdrawn(*withdrawn) if withdrawn else None)


def _plain(deployment: Deployment) -> dict[str, Any]:
    value = asdict(deployment)
    del value["next"]  # only the present row has one
    value["pins"] = None if deployment.pins is None else sorted(deployment.pins)
    return value


_FIELDS = frozenset(field.name for field in fields(Deployment))


def _deployment(value: dict[str, Any]) -> Deployment:
    known = {name: one for name, one in value.items() if name in _FIELDS}
    known["sla_tier"] = SlaTier(known["sla_tier"])
    known["residency_zones"] = tuple(known["residency_zones"])
    known["pins"] = None if known["pins"] is None else frozenset(known["pins"])
    return Deployment(**known)
