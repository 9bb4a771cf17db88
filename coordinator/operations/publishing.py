"""Publishing, whichever door a version comes through: one set of rules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from coordinator.blobs.piece_digests import with_pieces
from coordinator.core.model_card import MAX_LICENCE_CHARS
from coordinator.core.publications import Publication, RegistryRow, content_sha256, kind_of
from coordinator.core.runtime_config import checked_runtime
from coordinator.operations.adapter_import import inspect_adapter
from coordinator.operations.blob_access import check_access
from coordinator.operations.model_import import ImportedModel, inspect_model
from coordinator.operations.registry_objects import check_text, found_row
from coordinator.operations.use_case import note_of
from coordinator.store import publications
from protos.domain.errors import Conflict, Forbidden, InvalidRequest, NotFound
from protos.domain.ids import check_account_id
from protos.domain.manifest import MAX_CONTEXT_TOKENS, MAX_FILES, manifest_sha256
from protos.domain.object_names import ObjectKind, check_new_name
from protos.domain.pricing import SIZE_CLASSES, size_class_of
from protos.domain.resources import Adapter, Model, ModelSource, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from coordinator.operations.actor import Actor
    from coordinator.operations.acts import Act
    from coordinator.operations.registry_objects import NewObject
    from coordinator.operations.use_case import OperationsParts
    from protos.domain.resources import ModelFile

_MAX_SOURCE_CHARS = 300
_MAX_COMPARISON_CHARS = 500


class _Checked(NamedTuple):
    """A version that may be published."""

    row: RegistryRow
    licence: str = ""


async def publish_object(
    parts: OperationsParts, actor: Actor, act: Act, new: NewObject
) -> tuple[RegistryRow, bool]:
    """Publish a version; return it, and whether it is new. Raises: as ``Registry.publish``."""
    ref = check_new_name(new.name)
    account_id = _owner(parts, actor, new, ref.owner)
    check_text(new.source, "a source", _MAX_SOURCE_CHARS)
    check_text(new.licence, "a licence", MAX_LICENCE_CHARS)
    check_text(new.comparison, "a comparison", _MAX_COMPARISON_CHARS)
    if len(new.files) > MAX_FILES:
        raise InvalidRequest(f"{len(new.files)} files are more than {MAX_FILES}")
    check_access(parts, actor, new.files)
    # What is collected is never what is being named: both hold the blobs of a lease.
    async with parts.blobs.leased([file.sha256 for file in new.files]):
        checked = await _CHECKS[new.kind](parts, actor, new, account_id)
        files = await with_pieces(new.files, parts.blobs)
        return await _store(parts, actor, act, new, checked, files)


async def _store(
    parts: OperationsParts,
    actor: Actor,
    act: Act,
    new: NewObject,
    checked: _Checked,
    files: Sequence[ModelFile],
) -> tuple[RegistryRow, bool]:
    row = checked.row
    about = Publication(
        name=row.name,
        kind=kind_of(row),
        content_sha256=content_sha256(row),
        published_by=str(actor),
        account_id=row.account_id,
        source=new.source,
        licence=new.licence or checked.licence,
        ported_from=new.ported_from,
        comparison=new.comparison,
    )
    note = note_of(actor, act, f"{new.kind}/{row.name}", _detail(new, row))
    is_new = await parts.store.write(publications.publish(row, files, about), note)
    return row, is_new


def _owner(parts: OperationsParts, actor: Actor, new: NewObject, owner: str) -> str:
    """Return the account that will own a version. Raises: Forbidden, NotFound, InvalidRequest."""
    if actor.role is not None:
        if not new.account_id:
            return ""
        check_account_id(new.account_id)
        if new.account_id not in parts.store.view().accounts:
            raise NotFound(
                f"there is no account {new.account_id!r}", "`edgeforge account ls` shows all"
            )
        wanted = new.account_id
    else:
        wanted = actor.account_id
    if owner != wanted:
        raise Forbidden(
            f"account {wanted!r} publishes as {wanted}/name@version, not as {owner}/",
            f"name it {wanted}/{new.name.partition('/')[2]}",
        )
    return wanted


async def _check_model(
    parts: OperationsParts, actor: Actor, new: NewObject, account_id: str
) -> _Checked:
    if new.size_class and new.size_class not in SIZE_CLASSES:
        raise InvalidRequest(
            f"{new.size_class[:20]!r} is not a size class", "use " + ", ".join(SIZE_CLASSES)
        )
    if new.model_source is ModelSource.MANAGED:
        facts = await inspect_model(new.files, parts.blobs)
    elif actor.role is None:
        raise Forbidden("only operators register external models")
    else:
        facts = _external_facts(new)
    model = Model(
        name=new.name,
        source=new.model_source,
        family=facts.family,
        size_class=new.size_class or size_class_of(facts.weights_bytes),
        context_tokens=_context_tokens(new.context_tokens, facts),
        weights_bytes=facts.weights_bytes,
        manifest_sha256=manifest_sha256(new.files) if new.files else b"",
        swap_key=facts.swap_key,
        account_id=account_id,
    )
    return _Checked(model, facts.licence)


async def _check_adapter(
    parts: OperationsParts, actor: Actor, new: NewObject, account_id: str
) -> _Checked:
    if not new.base:
        raise InvalidRequest("an adapter needs its base", "name it with --base owner/name@version")
    base = found_row(parts.store, actor, new.base, ObjectKind.MODEL)
    assert isinstance(base, Model)
    if base.account_id not in ("", account_id):
        raise Conflict(
            f"{base.name} belongs to account {base.account_id}, so its adapters do too",
            f"publish the adapter for that account: --account {base.account_id}",
            retryable=False,
        )
    facts = await inspect_adapter(new.files, base, parts.store.manifest(base.name), parts.blobs)
    adapter = Adapter(
        name=new.name,
        model=base.name,
        rank=facts.rank,
        weights_bytes=facts.weights_bytes,
        manifest_sha256=manifest_sha256(new.files),
        account_id=account_id,
    )
    return _Checked(adapter, facts.licence)


async def _check_runtime(
    parts: OperationsParts, actor: Actor, new: NewObject, account_id: str
) -> _Checked:
    if new.runtime is None or new.files:
        raise InvalidRequest("a runtime has settings and no files")
    runtime = checked_runtime(new.runtime)
    return _Checked(replace(runtime, name=new.name, account_id=account_id))


_CHECKS: Mapping[
    ObjectKind,
    Callable[[OperationsParts, Actor, NewObject, str], Coroutine[object, object, _Checked]],
] = {
    ObjectKind.MODEL: _check_model,
    ObjectKind.ADAPTER: _check_adapter,
    ObjectKind.RUNTIME: _check_runtime,
}


def _external_facts(new: NewObject) -> ImportedModel:
    if new.files:
        raise InvalidRequest(
            "an external model has no files here", "leave them out, or register it as managed"
        )
    if not new.context_tokens:
        raise InvalidRequest(
            "the context of an external model is not given",
            "set context_tokens to the value its engine was started with",
        )
    return ImportedModel("", MAX_CONTEXT_TOKENS, 0)


def _context_tokens(asked: int, facts: ImportedModel) -> int:
    """Return the model's context in tokens; ``asked`` may only shorten it."""
    if asked > facts.context_tokens:
        raise InvalidRequest(
            f"a context of {asked} tokens is more than the model's {facts.context_tokens}",
            "leave context_tokens out to use all of it",
        )
    return asked or facts.context_tokens


def _detail(new: NewObject, row: RegistryRow) -> str:
    """Return what the audit keeps of a publication."""
    match row:
        case Model():
            return (
                f"source={row.source} files={len(new.files)}"
                f" manifest_sha256={row.manifest_sha256.hex()}"
            )
        case Adapter():
            return (
                f"base={row.model} files={len(new.files)}"
                f" manifest_sha256={row.manifest_sha256.hex()}"
                + (f" ported_from={new.ported_from}" if new.ported_from else "")
            )
        case Runtime():
            return f"engine_kind={row.engine_kind} args={len(row.args)}"
