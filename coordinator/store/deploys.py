"""Deployments with their history, and the change of one that is under way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from coordinator.core.rollout import (
    MAX_REVISIONS,
    PREPARE_TIMEOUT_MS,
    Revision,
    Rollout,
    RolloutPhase,
    Withdrawn,
)
from coordinator.store import deployments, pins, residency
from coordinator.store.deploy_facts import DeployRecord
from protos.domain.errors import Conflict, NotFound
from protos.domain.resources import Deployment, NextVersion, ResourceType

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

    ``deployment`` carries the revision that it was made from, 0: any.
    Raises: as ``deployments.put``, and Conflict if that is not the present one.
    """

    def write(tx: Transaction) -> None:
        present = _present(tx, deployment.name)
        record = tx.fact(DeployRecord, deployment.name) or DeployRecord(deployment.name)
        if present is not None and deployment.revision and not create_only:
            _check_revision(present, deployment.revision)
        numbered = replace(deployment, revision=_next_number(record, present), next=None)
        deployments.put(numbered, sorted(set(node_ids)), create_only=create_only)(tx)
        written = _present(tx, deployment.name)
        if written is None or written == present:
            return
        ended = replace(record, rollout=None, withdrawn=None)
        tx.put_fact(_remembered(ended, written, by, reason, tx.now_unix_ms))

    return write


@dataclass(frozen=True, slots=True)
class Seen:
    """What a change was decided by: the present revision, and the change that is prepared."""

    revision: int
    prepared: Rollout | None = None


def begin(
    following: Deployment,
    node_ids: Iterable[str] | None,
    by: str,
    reason: str,
    *,
    seen: Seen,
    timeout_ms: int = PREPARE_TIMEOUT_MS,
    at_once: bool = False,
) -> Write[Rollout]:
    """Begin to make a next version ready, in place of the one of ``seen``. NotFound, Conflict.

    Conflict too when the deployment is not as ``seen`` any more; InvalidRequest for zones that its
    account does not have. ``node_ids``: its pins, None: it
    is not pinned. ``at_once``: it is ready already, and switched to.
    """

    def write(tx: Transaction) -> Rollout:
        present = require(tx, following.name)
        if present.account_id != following.account_id:
            raise Conflict(
                f"deployment {present.name!r} belongs to account {present.account_id!r}",
                "a deployment never changes hands: choose another name",
                retryable=False,
            )
        named = None if node_ids is None else frozenset(node_ids)
        deployments.require_parts(tx, following, named or ())
        record = tx.fact(DeployRecord, following.name) or DeployRecord(following.name)
        _check_seen(record, present, seen)
        number = _next_number(record, present)
        within = residency.within(tx, following)
        other = replace(within, pins=named, revision=number, next=None)
        rollout = Rollout(RolloutPhase.PREPARING, other, by, reason, tx.now_unix_ms, timeout_ms)
        begun = replace(_started(record, present, tx.now_unix_ms), rollout=rollout, withdrawn=None)
        tx.put_fact(begun)
        if at_once:
            switch(following.name, rollout)(tx)
        else:
            coming = NextVersion(other.model, other.adapter, other.residency_zones, named)
            tx.put(replace(present, next=coming))
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
            prepared,
            phase=RolloutPhase.SETTLING,
            other=replace(present, next=None),
            since_unix_ms=tx.now_unix_ms,
        )
        remembered = _remembered(
            record, prepared.other, prepared.by, prepared.reason, tx.now_unix_ms
        )
        tx.put_fact(replace(remembered, rollout=settling))
        return True

    return write


def end(name: str, rollout: Rollout) -> Write[bool]:
    """Forget a roll-out that is done. False if it is not the one under way."""

    def write(tx: Transaction) -> bool:
        record = tx.fact(DeployRecord, name)
        if record is None or record.rollout != rollout:
            return False
        tx.put_fact(replace(record, rollout=None))
        return True

    return write


def withdraw(name: str, prepared: Rollout, by: str, why: str) -> Write[None]:
    """Forget a change that is prepared, and remember why. Conflict if it is not under way."""

    def write(tx: Transaction) -> None:
        record, present = tx.fact(DeployRecord, name), _present(tx, name)
        if record is None or present is None or record.rollout != prepared:
            raise Conflict(
                f"the change of deployment {name!r} to revision {prepared.other.revision} is no"
                " longer under way",
                f"see what became of it: edgeforge deploy show {name}",
                retryable=False,
            )
        number = prepared.other.revision
        withdrawn = Withdrawn(number, prepared.reason, by, why, tx.now_unix_ms)
        tx.put_fact(replace(record, rollout=None, withdrawn=withdrawn))
        tx.put(replace(present, next=None))

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
    """Return a number that no version has had, not one that was withdrawn either."""
    newest = record.revisions[-1].number if record.revisions else 0
    prepared = record.rollout.other.revision if record.rollout else 0
    withdrawn = record.withdrawn.number if record.withdrawn else 0
    return max(newest, present.revision if present else 0, prepared, withdrawn) + 1


def _check_seen(record: DeployRecord, present: Deployment, seen: Seen) -> None:
    """Raises: Conflict if a change was decided by what is no longer so."""
    rollout = record.rollout
    prepared = rollout if rollout and rollout.phase is RolloutPhase.PREPARING else None
    if (present.revision, prepared) == (seen.revision, seen.prepared):
        return
    if prepared is None or present.revision != seen.revision:
        now = f"it is at revision {present.revision}"
    else:
        now = f"{prepared.by} has begun to change it to revision {prepared.other.revision}"
    raise _changed(present.name, now)


def _check_revision(present: Deployment, revision: int) -> None:
    """Raises: Conflict if a change was made from another revision than the present one."""
    if present.revision != revision:
        raise _changed(present.name, f"it is at revision {present.revision}")


def _changed(name: str, now: str) -> Conflict:
    return Conflict(
        f"deployment {name!r} was changed meanwhile: {now}",
        f"look at it, then repeat the change if it is still right: edgeforge deploy show {name}",
        retryable=False,
    )


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
