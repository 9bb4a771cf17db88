"""Versions of models, adapters and runtimes: published once, never changed, removed if unused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.core.publications import (
    MAX_ACCOUNT_NAMES,
    MAX_OBJECTS,
    MAX_VERSIONS,
    Publication,
    RegistryRow,
    content_sha256,
    kind_of,
)
from coordinator.store.fact_types import FactType
from coordinator.store.facts import Manifest
from coordinator.store.registry_facts import PublicationRow, RuntimeRow
from coordinator.store.uses import users_of
from protos.domain.errors import Conflict, NotFound, TooLarge
from protos.domain.object_names import ObjectKind, repository_of
from protos.domain.resources import Adapter, Model, ModelFile, ResourceType, Runtime

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction, Write


def publish(
    row: RegistryRow, files: Sequence[ModelFile], about: Publication | None = None
) -> Write[bool]:
    """Publish a version; return whether it is new: the same again changes nothing.

    ``about`` names who publishes it and where it came from; its order and time are given here.
    Raises: Conflict if the name has other content, or its ``owner/name`` is another kind's or
    another owner's; NotFound without an adapter's base; TooLarge.
    """

    def write(tx: Transaction) -> bool:
        known = tx.fact(PublicationRow, row.name)
        present = _present(tx, row)
        wanted = about or Publication(
            row.name, kind_of(row), content_sha256(row), account_id=row.account_id
        )
        if known is not None and (known.publication.removed_unix_ms or present is not None):
            _refuse_change(known.publication, wanted)
        elif present is not None:
            was = Publication(
                row.name, kind_of(row), content_sha256(present), account_id=present.account_id
            )
            _refuse_change(was, wanted)
        siblings = _siblings(tx, row)
        _check_siblings(wanted, siblings)
        if known is None:
            _check_room(tx, wanted)
        if isinstance(row, Adapter) and _row(tx, ObjectKind.MODEL, row.model) is None:
            raise NotFound(f"there is no model {row.model!r}", "import the adapter's base first")
        is_new = known is None or bool(known.publication.removed_unix_ms)
        if is_new:
            # One from before publications is no newer for being imported again.
            order = 0 if present else max((one.order for one in siblings), default=0) + 1
            stamped = replace(
                wanted, order=order, published_unix_ms=tx.now_unix_ms, removed_unix_ms=0
            )
            tx.put_fact(PublicationRow(stamped))
        _put(tx, row, files)
        return is_new and present is None

    return write


def remove(kind: ObjectKind, name: str) -> Write[None]:
    """Remove a version that nothing uses. Raises: NotFound, Conflict naming what uses it."""

    def write(tx: Transaction) -> None:
        row = _row(tx, kind, name)
        if row is None:
            raise NotFound(f"there is no {kind} {name!r}", f"`edgeforge {kind} ls` shows all")
        if users := users_of(tx, name):
            more = f" and {len(users) - 5} more" if len(users) > 5 else ""
            raise Conflict(
                f"{kind} {name!r} is used by {', '.join(users[:5])}{more}",
                "remove what uses it first, or have it use another version",
                retryable=False,
            )
        known = tx.fact(PublicationRow, name)
        publication = (
            Publication(name, kind, content_sha256(row), account_id=row.account_id)
            if known is None
            else known.publication
        )
        # Kept, so that the name never means other content.
        tx.put_fact(PublicationRow(replace(publication, removed_unix_ms=tx.now_unix_ms)))
        tx.remove_fact(FactType.MANIFEST, name)
        if kind is ObjectKind.RUNTIME:
            tx.remove_fact(FactType.RUNTIME, name)
        else:
            tx.remove(ResourceType.DEPLOYMENTS, f"{kind}/{name}")

    return write


def is_owner(tx: Transaction, owner: str) -> bool:
    """Return whether a version was published as ``owner/name@version``, by whomever."""
    prefix = f"{owner}/"
    return bool(
        tx.keys(FactType.PUBLICATION, prefix)
        or tx.keys(ResourceType.DEPLOYMENTS, f"model/{prefix}")
        or tx.keys(ResourceType.DEPLOYMENTS, f"adapter/{prefix}")
    )


def set_comparison(name: str, comparison: str) -> Write[None]:
    """Keep how a version's answers compare with those of what it was ported from. NotFound."""

    def write(tx: Transaction) -> None:
        known = tx.fact(PublicationRow, name)
        if known is None or known.publication.removed_unix_ms:
            raise NotFound(f"{name!r} was removed meanwhile")
        tx.put_fact(PublicationRow(replace(known.publication, comparison=comparison)))

    return write


def require(tx: Transaction, kind: ObjectKind, name: str) -> None:
    """Raises: NotFound."""
    if _row(tx, kind, name) is None:
        raise NotFound(f"there is no {kind} {name!r}", f"`edgeforge {kind} ls` shows all")


def _put(tx: Transaction, row: RegistryRow, files: Sequence[ModelFile]) -> None:
    if isinstance(row, Runtime):
        tx.put_fact(RuntimeRow(row))
        return
    tx.put(row)
    if files:
        tx.put_fact(Manifest(row.name, tuple(sorted(files, key=lambda file: file.path))))


def _present(tx: Transaction, row: RegistryRow) -> RegistryRow | None:
    return _row(tx, kind_of(row), row.name)


def _row(tx: Transaction, kind: ObjectKind, name: str) -> RegistryRow | None:
    if kind is ObjectKind.RUNTIME:
        fact = tx.fact(RuntimeRow, name)
        return None if fact is None else fact.runtime
    row = tx.get(ResourceType.DEPLOYMENTS, f"{kind}/{name}")
    return row if isinstance(row, (Model, Adapter)) else None


def _siblings(tx: Transaction, row: RegistryRow) -> list[Publication]:
    """Return every other version of the object, those without a publication too."""
    prefix = repository_of(row.name) + "@"
    found = {}
    for key in tx.keys(FactType.PUBLICATION, prefix):
        fact = tx.fact(PublicationRow, key)
        assert fact is not None
        found[key] = fact.publication
    for key in tx.keys(ResourceType.DEPLOYMENTS, f"model/{prefix}"):
        name = key.removeprefix("model/")
        model = _row(tx, ObjectKind.MODEL, name)
        if name not in found and model is not None:
            found[name] = Publication(
                name, ObjectKind.MODEL, content_sha256(model), account_id=model.account_id
            )
    found.pop(row.name, None)
    return list(found.values())


def _check_siblings(wanted: Publication, siblings: Sequence[Publication]) -> None:
    if len(siblings) >= MAX_VERSIONS:
        raise TooLarge(
            f"{wanted.repository!r} has {MAX_VERSIONS} versions, which are all it may",
            "publish it under another name",
        )
    for one in siblings:
        if one.kind is not wanted.kind:
            article = "an" if one.kind is ObjectKind.ADAPTER else "a"
            raise Conflict(
                f"{wanted.repository!r} is the name of {article} {one.kind}",
                f"choose another name for the {wanted.kind}",
                retryable=False,
            )
        if one.account_id != wanted.account_id:
            owner = f"account {one.account_id}" if one.account_id else "the operators"
            raise Conflict(
                f"{wanted.repository!r} belongs to {owner}", "choose another name", retryable=False
            )


def _check_room(tx: Transaction, wanted: Publication) -> None:
    """Raises: TooLarge when the registry, or its owner's part of it, is full."""
    known = [one.publication for one in tx.facts(PublicationRow)]
    if sum(not one.removed_unix_ms for one in known) >= MAX_OBJECTS:
        raise TooLarge(
            f"the registry holds {MAX_OBJECTS} versions, which are all it may",
            "remove versions that nothing uses",
        )
    account_id = wanted.account_id
    if account_id and sum(one.account_id == account_id for one in known) >= MAX_ACCOUNT_NAMES:
        raise TooLarge(f"account {account_id!r} has used {MAX_ACCOUNT_NAMES} names of versions")


def _refuse_change(known: Publication, wanted: Publication) -> None:
    """Raises: Conflict unless both are the same."""
    if known.kind is not wanted.kind:
        raise Conflict(
            f"{known.name!r} is the name of a version of kind {known.kind}",
            "choose another name",
            retryable=False,
        )
    if known.content_sha256 != wanted.content_sha256:
        by = f" by {known.published_by}" if known.published_by else ""
        raise _other_content(known.name, by, removed=bool(known.removed_unix_ms))
    if known.account_id != wanted.account_id:
        raise Conflict(f"{known.name!r} belongs to another account", retryable=False)


def _other_content(name: str, by: str, *, removed: bool = False) -> Conflict:
    then = " and has been removed since" if removed else ""
    return Conflict(
        f"{name!r} was published with other content{by}{then}",
        "a version never changes: publish it under a new @version",
        retryable=False,
    )
