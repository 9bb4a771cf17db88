"""POPs, models, deployments, and the pins of deployments to nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordinator.store.nodes import require_node
from protos.domain.errors import Conflict, NotFound
from protos.domain.resources import Deployment, Model, ModelFile, Pop, ResourceType, row_key

if TYPE_CHECKING:
    from coordinator.store.cached_tables import CachedTables
    from coordinator.store.transaction import Transaction


def put_pop(tx: Transaction, pop: Pop) -> None:
    """Create or replace a POP."""
    tx.put(pop)


def put_model(tx: Transaction, model: Model, files: Sequence[ModelFile]) -> None:
    """Register a model; registering the same again changes nothing."""
    present = tx.get(ResourceType.DEPLOYMENTS, row_key(model))
    if present is not None and present != model:
        raise Conflict(
            f"model {model.name!r} is registered with other content",
            "a version never changes: register it under a new @version",
            retryable=False,
        )
    tx.put(model)
    for file in files:
        tx.execute(
            "INSERT INTO model_files (model, path, sha256, size_bytes) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (model, path) DO NOTHING",
            (model.name, file.path, file.sha256, file.size_bytes),
        )
    ordered = tuple(sorted(files, key=lambda file: file.path))

    def keep(cached: CachedTables) -> None:
        cached.manifests[model.name] = ordered

    tx.effects.append(keep)


def put_deployment(
    tx: Transaction, deployment: Deployment, node_ids: Sequence[str], *, create_only: bool
) -> None:
    """Create or replace a deployment and its placement."""
    require_account(tx, deployment.account_id)
    require_model(tx, deployment.model)
    for node_id in node_ids:
        require_node(tx, node_id)
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
    tx.put(deployment)
    tx.execute("DELETE FROM placements WHERE deployment = ?", (deployment.name,))
    ordered = tuple(sorted(set(node_ids)))
    for node_id in ordered:
        tx.execute(
            "INSERT INTO placements (deployment, node_id) VALUES (?, ?)",
            (deployment.name, node_id),
        )

    def keep(cached: CachedTables) -> None:
        cached.placements[deployment.name] = ordered

    tx.effects.append(keep)


def remove_deployment(tx: Transaction, name: str) -> None:
    """Remove a deployment and its placement."""
    if not tx.remove(ResourceType.DEPLOYMENTS, f"deployment/{name}"):
        raise NotFound(f"there is no deployment {name!r}", "`edgeforge deployment ls` shows all")
    tx.execute("DELETE FROM placements WHERE deployment = ?", (name,))

    def forget(cached: CachedTables) -> None:
        cached.placements.pop(name, None)

    tx.effects.append(forget)


def require_model(tx: Transaction, name: str) -> None:
    """Raises: NotFound."""
    if tx.get(ResourceType.DEPLOYMENTS, f"model/{name}") is None:
        raise NotFound(f"there is no model {name!r}", "`edgeforge model import PATH` adds one")


def require_account(tx: Transaction, account_id: str) -> None:
    """Raises: NotFound."""
    if tx.get(ResourceType.CREDENTIALS, f"account/{account_id}") is None:
        raise NotFound(f"there is no account {account_id!r}", "`edgeforge account create` adds one")


def require_pop(tx: Transaction, pop_id: str) -> None:
    """Raises: NotFound."""
    if tx.get(ResourceType.TOPOLOGY, f"pop/{pop_id}") is None:
        raise NotFound(f"there is no POP {pop_id!r}", "`edgeforge pop create` adds one")
