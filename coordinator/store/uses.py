"""What uses an object of the registry, and so keeps it from being removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.store.deploy_facts import DeployRecord
from protos.domain.resources import Adapter, Deployment, ResourceType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordinator.store.transaction import Transaction


def users_of(tx: Transaction, name: str) -> list[str]:
    """Return what needs the object ``name``, as an operator reads it."""
    keys = tx.keys(ResourceType.DEPLOYMENTS, "")
    rows = [tx.get(ResourceType.DEPLOYMENTS, key) for key in keys]
    found = uses_of(
        [one for one in rows if isinstance(one, Deployment)],
        tx.facts(DeployRecord),
        [one for one in rows if isinstance(one, Adapter)],
    )
    return found.get(name, [])


def uses_of(
    deployments: Iterable[Deployment], records: Iterable[DeployRecord], adapters: Iterable[Adapter]
) -> dict[str, list[str]]:
    """Return by object what needs it: deployments, what they change or may return to, adapters."""
    found: dict[str, list[str]] = {}
    needed: dict[str, set[str]] = {}

    def use(deployment: Deployment, user: str) -> None:
        names = {deployment.model, deployment.adapter, deployment.runtime} - {""}
        known = needed.setdefault(deployment.name, set())
        for name in names - known:
            found.setdefault(name, []).append(user)
        known |= names

    for one in sorted(deployments, key=lambda each: each.name):
        use(one, f"deployment {one.name}")
    for record in sorted(records, key=lambda each: each.name):
        if record.rollout is not None:
            user = f"the change of deployment {record.name} that is under way"
            use(record.rollout.other, user)
        for revision in reversed(record.revisions):
            user = f"deployment {record.name}, which may be rolled back to {revision.number}"
            use(revision.deployment, user)
    for adapter in sorted(adapters, key=lambda each: each.name):
        found.setdefault(adapter.model, []).append(f"adapter {adapter.name}")
    return found
