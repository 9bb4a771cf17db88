"""Deployments, and their pins to nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.store import accounts, models, nodes, pins, publications, residency
from coordinator.store.fact_types import FactType
from protos.domain.errors import Conflict, NotFound
from protos.domain.object_names import ObjectKind
from protos.domain.resources import Deployment, ResourceType, row_key

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction, Write


def put(deployment: Deployment, node_ids: Sequence[str], *, create_only: bool) -> Write[None]:
    """Create or replace a deployment and its pins.

    NotFound if account, model, adapter, runtime or a node is unknown; Conflict if it exists and
    ``create_only``, or belongs to another account; InvalidRequest for zones that its account does
    not have.
    """

    def write(tx: Transaction) -> None:
        require_parts(tx, deployment, node_ids)
        present = tx.get(ResourceType.DEPLOYMENTS, row_key(deployment))
        if isinstance(present, Deployment):
            if create_only:
                raise Conflict(
                    f"deployment {deployment.name!r} exists",
                    "leave out create-only to replace it, or choose another name",
                    retryable=False,
                )
            if present.account_id != deployment.account_id:
                raise Conflict(
                    f"deployment {deployment.name!r} belongs to account {present.account_id!r}",
                    "a deployment never changes hands: choose another name",
                    retryable=False,
                )
        # Without nodes it is not pinned; or still to none, once its last one was removed.
        pinned = frozenset(node_ids) or (None if deployment.pins else deployment.pins)
        tx.put(replace(residency.within(tx, deployment), pins=pinned))
        pins.keep(tx, deployment.name, node_ids)

    return write


def require_parts(tx: Transaction, deployment: Deployment, node_ids: Iterable[str]) -> None:
    """Refuse what names something that was removed meanwhile. Raises: NotFound."""
    accounts.require(tx, deployment.account_id)
    models.require(tx, deployment.model)
    if deployment.adapter:
        publications.require(tx, ObjectKind.ADAPTER, deployment.adapter)
    if deployment.runtime:
        publications.require(tx, ObjectKind.RUNTIME, deployment.runtime)
    for node_id in node_ids:
        nodes.require(tx, node_id)


def remove(name: str, account_id: str = "") -> Write[None]:
    """Remove a deployment and its pins. NotFound, also if it is not of ``account_id``, if given."""

    def write(tx: Transaction) -> None:
        key = f"deployment/{name}"
        found = tx.get(ResourceType.DEPLOYMENTS, key)
        is_theirs = isinstance(found, Deployment) and account_id in ("", found.account_id)
        if not is_theirs or not tx.remove(ResourceType.DEPLOYMENTS, key):
            raise NotFound(
                f"there is no deployment {name!r}", "`edgeforge deployment ls` shows all"
            )
        tx.remove_fact(FactType.PLACEMENT, name)
        tx.remove_fact(FactType.DEPLOY, name)

    return write


def set_pins(wanted: Mapping[str, Sequence[str]]) -> Write[None]:
    """Replace the pins of deployments; one that has been removed meanwhile gets none."""

    def write(tx: Transaction) -> None:
        for name, node_ids in wanted.items():
            pins.put(tx, name, node_ids)

    return write
