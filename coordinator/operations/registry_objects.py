"""The registry's objects as callers see them, and how they are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.publications import (
    Publication,
    RegistryRow,
    content_sha256,
    find,
    kind_of,
    latest_of,
    revision_digest,
)
from coordinator.store.uses import uses_of
from protos.domain.errors import InvalidRequest, NotFound
from protos.domain.object_names import ObjectKind, parse_ref, repository_of, revision_of
from protos.domain.resources import ModelFile, ModelSource, Runtime

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.store.store import Store

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class NewObject:
    """A version to be published. Which fields it needs follows from its kind.

    ``base`` of an adapter is a reference to a model; ``runtime`` is a runtime whose name and owner
    are ignored. A model's empty size class and context of 0 follow from its files; an external
    model has no files. An operator may publish for ``account_id``; an account does so for itself.
    """

    kind: ObjectKind
    name: str
    files: tuple[ModelFile, ...] = ()
    base: str = ""
    runtime: Runtime | None = None
    model_source: ModelSource = ModelSource.MANAGED
    size_class: str = ""
    context_tokens: int = 0
    account_id: str = ""
    #: Where it came from, such as ``hf://org/repo@rev``; empty: an upload.
    source: str = ""
    #: Empty: as its card says.
    licence: str = ""
    ported_from: str = ""
    comparison: str = ""


@dataclass(frozen=True, slots=True)
class RegistryObject:
    """A version, with what is known of it. ``used_by`` names what keeps it from being removed."""

    row: RegistryRow
    publication: Publication
    files: tuple[ModelFile, ...] = ()
    is_latest: bool = False
    used_by: tuple[str, ...] = ()

    @property
    def revision(self) -> str:
        """40 hex digits; empty for an external model."""
        return revision_of(revision_digest(self.row))


@dataclass(frozen=True, slots=True)
class Published(RegistryObject):
    """A version that was published. ``is_new`` False: it was there, with the same content."""

    is_new: bool = True


def rows_of(store: Store, kind: ObjectKind) -> dict[str, RegistryRow]:
    """Return every object of a kind by name."""
    match kind:
        case ObjectKind.MODEL:
            return dict(store.view().models)
        case ObjectKind.ADAPTER:
            return dict(store.view().adapters)
        case ObjectKind.RUNTIME:
            return dict(store.runtimes())


def publication_of(store: Store, row: RegistryRow) -> Publication:
    """Return what is known of a version; of one from before publications, only what it is."""
    known = store.publications().get(row.name)
    if known is not None:
        return known
    return Publication(row.name, kind_of(row), content_sha256(row), account_id=row.account_id)


def visible_rows(store: Store, actor: Actor, kind: ObjectKind) -> list[RegistryRow]:
    """Return the objects of a kind that ``actor`` may read, by name."""
    rows = rows_of(store, kind)
    return [row for _, row in sorted(rows.items()) if actor.sees(row.account_id)]


def found_row(store: Store, actor: Actor, ref: str, kind: ObjectKind) -> RegistryRow:
    """Return the version that ``ref`` means. Raises: InvalidRequest, NotFound.

    What another account owns is not found.
    """
    parsed = parse_ref(ref)
    rows = {row.name: row for row in visible_rows(store, actor, kind)}
    # A full name needs no look at every version.
    name = f"{parsed.repository}@{parsed.version}"
    if parsed.version and name in rows:
        return rows[name]
    found = find((publication_of(store, row) for row in rows.values()), parsed)
    if found is not None:
        return rows[found.name]
    near = sorted(one for one in rows if repository_of(one) == parsed.repository) or sorted(rows)
    raise NotFound(
        f"there is no {kind} {ref[:160]!r}",
        f"there are {', '.join(near[:_SHOWN])}" if near else f"`edgeforge {kind} import` adds one",
    )


def object_of(store: Store, row: RegistryRow) -> RegistryObject:
    """Return a version with what is known of it."""
    (found,) = objects_of(store, [row])
    return found


def objects_of(store: Store, rows: Sequence[RegistryRow]) -> list[RegistryObject]:
    """Return versions with what is known of them; looks at each object once."""
    repositories = {repository_of(row.name) for row in rows}
    versions: dict[str, list[Publication]] = {}
    for kind in {kind_of(row) for row in rows}:
        for one in rows_of(store, kind).values():
            if (repository := repository_of(one.name)) in repositories:
                versions.setdefault(repository, []).append(publication_of(store, one))
    latest = {latest_of(found) for found in versions.values()}
    view = store.view()
    users = uses_of(view.deployments.values(), store.deploys().values(), view.adapters.values())
    return [
        RegistryObject(
            row=row,
            publication=(about := publication_of(store, row)),
            files=store.manifest(row.name),
            is_latest=about in latest,
            used_by=tuple(users.get(row.name, ())),
        )
        for row in rows
    ]


def check_text(value: str, what: str, max_chars: int) -> str:
    """Return a short text that an operator reads. Raises: InvalidRequest."""
    if len(value) > max_chars or not value.isprintable():
        raise InvalidRequest(f"{what} is at most {max_chars} characters of text")
    return value
