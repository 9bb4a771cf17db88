"""Deployments with their history, and the change of one that is under way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.core.rollout import MAX_REVISIONS, Revision, Rollout, RolloutPhase
from coordinator.store import deployments, pins
from coordinator.store.deploy_facts import DeployRecord
from protos.domain.errors import Conflict, NotFound
from protos.domain.resources import Deployment, ResourceType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordinator.store.transaction import Transaction, Write


def put_now(
    deployment: Deployment,
    node_ids: Iterable[str],
    by: str,
    reason: str,
    *,
    create_only: bool,
) -> Write[None]:
    """Create or replace a deployment at once, and remember that; ends a roll-out under way.

    Raises: as ``deployments.put``.
    """

    def write(tx: Transaction) -> None:
        present = _present(tx, deployment.name)
        record = tx.fact(DeployRecord, deployment.name) or DeployRecord(deployment.name)
        numbered = replace(deployment, revision=_next_number(record, present))
        deployments.put(numbered, sorted(set(node_ids)), create_only=create_only)(tx)
        written = _present(tx, deployment.name)
        if written is None or written == present:
            return
        tx.put_fact(_remembered(replace(record, rollout=None), written, by, reason, tx.now_unix_ms))

    return write


def begin(
    following: Deployment,
    node_ids: Iterable[str] | None,
    by: str,
    reason: str,
    *,
    seen: Deployment | None = None,
    at_once: bool = False,
) -> Write[Rollout]:
    """Begin to make a next version ready; one under way is replaced. NotFound, Conflict.

    ``node_ids``: its pins, None: it is not pinned. ``seen``: the version that the change was made
    from; a Conflict if there is another one now. ``at_once``: switched in the same transaction.
    """

    def write(tx: Transaction) -> Rollout:
        present = require(tx, following.name)
        if seen is not None and present != seen:
            raise Conflict(
                f"deployment {present.name!r} was changed meanwhile",
                "look at it again: `edgeforge deploy show`, then repeat what is still wanted",
            )
        if present.account_id != following.account_id:
            raise Conflict(
                f"deployment {present.name!r} belongs to account {present.account_id!r}",
                "a deployment never changes hands: choose another name",
                retryable=False,
            )
        named = None if node_ids is None else frozenset(node_ids)
        deployments.require_parts(tx, following, named or ())
        record = tx.fact(DeployRecord, following.name) or DeployRecord(following.name)
        other = replace(following, pins=named, revision=_next_number(record, present))
        rollout = Rollout(RolloutPhase.PREPARING, other, by, reason, tx.now_unix_ms)
        tx.put_fact(replace(_started(record, present, tx.now_unix_ms), rollout=rollout))
        if at_once:
            switch(following.name, rollout)(tx)
        return rollout

    return write


def switch(name: str, prepared: Rollout) -> Write[bool]:
    """Make the prepared version the row, in one transaction; False if it was withdrawn."""

    def write(tx: Transaction) -> bool:
        record, present = tx.fact(DeployRecord, name), _present(tx, name)
        if record is None or present is None or record.rollout != prepared:
            return False
        tx.put(prepared.other)
        pins.keep(tx, name, prepared.other.pins or ())
        settling = replace(
            prepared, phase=RolloutPhase.SETTLING, other=present, since_unix_ms=tx.now_unix_ms
        )
        remembered = _remembered(
            record, prepared.other, prepared.by, prepared.reason, tx.now_unix_ms
        )
        tx.put_fact(replace(remembered, rollout=settling))
        return True

    return write


def end(name: str, rollout: Rollout) -> Write[bool]:
    """Forget a roll-out: it is done, or withdrawn. False if it is not the one under way."""

    def write(tx: Transaction) -> bool:
        record = tx.fact(DeployRecord, name)
        if record is None or record.rollout != rollout:
            return False
        tx.put_fact(replace(record, rollout=None))
        return True

    return write


def require(tx: Transaction, name: str) -> Deployment:
    """Return a deployment. Raises: NotFound."""
    found = _present(tx, name)
    if found is None:
        raise NotFound(f"there is no deployment {name!r}", "`edgeforge deploy ls` shows all")
    return found


def _present(tx: Transaction, name: str) -> Deployment | None:
    found = tx.get(ResourceType.DEPLOYMENTS, f"deployment/{name}")
    return found if isinstance(found, Deployment) else None


def _next_number(record: DeployRecord, present: Deployment | None) -> int:
    newest = record.revisions[-1].number if record.revisions else 0
    return max(newest, present.revision if present else 0) + 1


def _started(record: DeployRecord, present: Deployment, now_unix_ms: int) -> DeployRecord:
    """Return the record with the present version, of a deployment older than its history."""
    if record.revisions:
        return record
    return replace(record, revisions=(Revision(present, "", now_unix_ms, "before"),))


def _remembered(
    record: DeployRecord, written: Deployment, by: str, reason: str, now_unix_ms: int
) -> DeployRecord:
    revisions = (*record.revisions, Revision(written, by, now_unix_ms, reason))
    return replace(record, revisions=revisions[-MAX_REVISIONS:])
