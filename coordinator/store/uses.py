"""What uses an object of the registry, and so keeps it from being removed.

What a deployment was served from lately counts: a rollback must find it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.core.rollout import KEPT_REVISIONS
from coordinator.store.deploy_facts import DeployRecord
from protos.domain.resources import Adapter, Deployment, ResourceType

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction


def users_of(tx: Transaction, name: str) -> list[str]:
    """Return the deployments and adapters that need the object ``name``, as an operator reads."""
    found = []
    for key in tx.keys(ResourceType.DEPLOYMENTS, "deployment/"):
        one = tx.get(ResourceType.DEPLOYMENTS, key)
        if isinstance(one, Deployment) and name in (one.model, one.adapter, one.runtime):
            found.append(f"deployment {one.name}")
    for record in tx.facts(DeployRecord):
        for revision in record.revisions[-KEPT_REVISIONS:]:
            once = revision.deployment
            if name in (once.model, once.adapter, once.runtime):
                who = f"deployment {record.name}"
                if who not in found:
                    found.append(f"revision {revision.number} of {who}, for a rollback")
                    break
        other = None if record.rollout is None else record.rollout.other
        if other is not None and name in (other.model, other.adapter, other.runtime):
            found.append(f"the change of deployment {record.name} that is under way")
    for key in tx.keys(ResourceType.DEPLOYMENTS, "adapter/"):
        one = tx.get(ResourceType.DEPLOYMENTS, key)
        if isinstance(one, Adapter) and one.model == name:
            found.append(f"adapter {one.name}")
    return found
