"""The registry: models, adapters and runtimes, published once and never changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordinator.core.publications import content_sha256, kind_of
from coordinator.operations.acts import Act
from coordinator.operations.adapter_comparison import compare_adapters
from coordinator.operations.adapter_import import misfits_with
from coordinator.operations.publishing import publish_object
from coordinator.operations.registry_objects import (
    NewObject,
    Published,
    RegistryObject,
    found_row,
    object_of,
    objects_of,
    publication_of,
    visible_rows,
)
from coordinator.operations.use_case import UseCases, note_of, use_case
from coordinator.operations.verification import Verification, verify_files
from coordinator.store import publications
from protos.domain.errors import Forbidden, InvalidRequest
from protos.domain.object_names import ObjectKind, check_new_name
from protos.domain.plain_text import escaped
from protos.domain.resources import Adapter, Model

if TYPE_CHECKING:
    from coordinator.core.publications import RegistryRow
    from coordinator.operations.actor import Actor
    from coordinator.operations.use_case import OperationsParts

#: Tensors that do not fit a new base which a refusal names.
_SHOWN_MISFITS = 40
_MAX_SUBJECT_CHARS = 100

NOT_COMPARED = "answers not compared"


def _new(new: NewObject, *_args: object, **_kwargs: object) -> str:
    return f"{new.kind}/{escaped(new.name[:_MAX_SUBJECT_CHARS])}"


def _referred(ref: str, kind: ObjectKind, *_args: object, **_kwargs: object) -> str:
    return f"{kind}/{escaped(ref[:_MAX_SUBJECT_CHARS])}"


class Registry(UseCases):
    """Objects of every kind. An account sees its own and those of the operators."""

    def __init__(self, parts: OperationsParts) -> None:
        super().__init__(parts)
        #: Held while a version is read again: it takes the disk's whole speed.
        self._verifying = asyncio.Semaphore(1)

    @use_case(Act.OBJECT_PUBLISH, _new)
    async def publish(self, actor: Actor, new: NewObject) -> Published:
        """Publish a version whose files are all here; the same again changes nothing.

        Raises: InvalidRequest for content that may not be served; Conflict when the name has other
        content or is another owner's; Forbidden; NotFound without an adapter's base.
        """
        row, is_new = await publish_object(self._parts, actor, Act.OBJECT_PUBLISH, new)
        found = object_of(self._store, row)
        return Published(row, found.publication, found.files, found.is_latest, (), is_new=is_new)

    @use_case(Act.OBJECT_RESOLVE, _referred)
    async def resolve(self, actor: Actor, ref: str, kind: ObjectKind) -> str:
        """Return the full name that ``owner/name`` or ``owner/name@version`` means.

        Raises: InvalidRequest, NotFound.
        """
        return found_row(self._store, actor, ref, kind).name

    @use_case(Act.OBJECT_SHOW, _referred)
    async def show(self, actor: Actor, ref: str, kind: ObjectKind) -> RegistryObject:
        """Return a version with its files and its users. Raises: InvalidRequest, NotFound."""
        return object_of(self._store, found_row(self._store, actor, ref, kind))

    @use_case(Act.OBJECT_LIST)
    async def list_all(self, actor: Actor, kind: ObjectKind) -> Sequence[RegistryObject]:
        """Return every version of a kind by name."""
        return objects_of(self._store, visible_rows(self._store, actor, kind))

    @use_case(Act.OBJECT_REMOVE, _referred)
    async def remove(self, actor: Actor, ref: str, kind: ObjectKind) -> str:
        """Remove a version that nothing uses, and return its name, which stays taken.

        The version must be named. Raises: InvalidRequest, NotFound, Forbidden, Conflict.
        """
        check_new_name(ref)
        row = self._own(actor, ref, kind)
        note = note_of(actor, Act.OBJECT_REMOVE, f"{kind}/{row.name}")
        await self._store.write(publications.remove(kind, row.name), note)
        return row.name

    @use_case(Act.OBJECT_VERIFY, _referred)
    async def verify(self, actor: Actor, ref: str, kind: ObjectKind) -> Verification:
        """Read every byte of a version again and compare digests. Raises: NotFound."""
        row = found_row(self._store, actor, ref, kind)
        async with self._verifying:
            problems = await verify_files(self._store.manifest(row.name), self._parts.blobs)
        if publication_of(self._store, row).content_sha256 != content_sha256(row):
            problems[row.name] = "is not as it was published"
        return Verification(row.name, self._store.manifest(row.name), problems)

    @use_case(Act.ADAPTER_PORT, lambda ref, *_args, **_kwargs: _referred(ref, ObjectKind.ADAPTER))
    async def port(self, actor: Actor, ref: str, base: str, name: str) -> Published:
        """Publish an adapter for another base as ``name``, with its lineage.

        Raises: InvalidRequest naming every tensor that does not fit; NotFound, Conflict, Forbidden.
        """
        adapter = self._own(actor, ref, ObjectKind.ADAPTER)
        model = found_row(self._store, actor, base, ObjectKind.MODEL)
        assert isinstance(adapter, Adapter)
        assert isinstance(model, Model)
        if model.name == adapter.model:
            raise InvalidRequest(f"{adapter.name} is for {model.name} already")
        files = self._store.manifest(adapter.name)
        await self._check_port(adapter, model)
        known = object_of(self._store, adapter).publication
        new = NewObject(
            kind=ObjectKind.ADAPTER,
            name=name,
            files=files,
            base=model.name,
            account_id=adapter.account_id,
            source=known.source,
            licence=known.licence,
            ported_from=adapter.name,
            comparison=NOT_COMPARED,
        )
        row, is_new = await publish_object(self._parts, actor, Act.ADAPTER_PORT, new)
        found = object_of(self._store, row)
        return Published(row, found.publication, found.files, found.is_latest, (), is_new=is_new)

    @use_case(Act.ADAPTER_COMPARE, lambda ref, *_a, **_k: _referred(ref, ObjectKind.ADAPTER))
    async def compare(self, actor: Actor, ref: str, other: str = "") -> RegistryObject:
        """Compare an adapter's answers with another's, and keep the outcome with its version.

        Without ``other`` with those of the adapter that it was ported from. Engines must serve
        both. Raises: InvalidRequest, NotFound, Conflict; LinkDown, EngineFailed.
        """
        adapter = found_row(self._store, actor, ref, ObjectKind.ADAPTER)
        known = object_of(self._store, adapter).publication
        if not (other or known.ported_from):
            raise InvalidRequest(
                f"{adapter.name} was not ported from another adapter",
                "name the adapter to compare it with: --with owner/name@version",
            )
        old = found_row(self._store, actor, other or known.ported_from, ObjectKind.ADAPTER)
        assert isinstance(adapter, Adapter)
        assert isinstance(old, Adapter)
        outcome = await compare_adapters(self._parts, old, adapter)
        note = note_of(actor, Act.ADAPTER_COMPARE, f"adapter/{adapter.name}", outcome)
        await self._store.write(publications.set_comparison(adapter.name, outcome), note)
        return object_of(self._store, adapter)

    async def _check_port(self, adapter: Adapter, model: Model) -> None:
        """Raises: InvalidRequest naming every tensor that does not fit."""
        files, base_files = (self._store.manifest(one.name) for one in (adapter, model))
        problems = await misfits_with(files, model, base_files, self._parts.blobs)
        if problems:
            more = len(problems) - _SHOWN_MISFITS
            raise InvalidRequest(
                f"{len(problems)} tensors of {adapter.name} do not fit {model.name}: "
                + "; ".join(problems[:_SHOWN_MISFITS])
                + (f"; and {more} more" if more > 0 else ""),
                "train the adapter on that base; nothing was published",
            )

    def _own(self, actor: Actor, ref: str, kind: ObjectKind) -> RegistryRow:
        """Return a version that ``actor`` may change. Raises: NotFound, Forbidden."""
        row = found_row(self._store, actor, ref, kind)
        if actor.role is None and row.account_id != actor.account_id:
            raise Forbidden(f"{kind_of(row)} {row.name} belongs to the operators")
        return row
