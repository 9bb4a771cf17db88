"""Routes about models and adapters: what can be deployed, imports, removal."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from coordinator.api.customer.pages import page_of
from coordinator.api.customer.route import Call, Model, PageQuery, Param, Route
from coordinator.operations.acts import Act
from coordinator.operations.upstream import parse_upstream
from coordinator.operations.upstream_imports import NewImport, check_owner
from protos.domain.object_names import ObjectKind
from protos.domain.resources import Adapter, Runtime
from protos.domain.resources import Model as ModelRow

if TYPE_CHECKING:
    from coordinator.api.customer.imports import Job
    from coordinator.operations.registry_objects import RegistryObject
    from coordinator.operations.upstream import Progress

OBJECT_REF = Param(
    r"[A-Za-z0-9][A-Za-z0-9_.@/-]{0,199}",
    "`owner/name@version` or `owner/name`, its slash as %2F; without an owner: the account's.",
    "acme/llama-8b@1",
)
IMPORT_ID = Param(r"[a-z0-9-]{1,64}", "An import's id.", "i-0011223344556677")


class ObjectAnswer(Model):
    """A version of a model or an adapter."""

    name: str = Field(description="owner/name@version")
    kind: str
    own: bool = Field(description="The account's own; else the operators', for everyone.")
    base: str = Field(description="Of an adapter: the model it is for.")
    size_class: str = Field(description="Of a model: its class on the price card.")
    context_tokens: int
    weights_bytes: int
    size_bytes: int
    revision: str
    source: str
    licence: str
    published_unix_ms: int
    is_latest: bool


class ObjectPage(Model):
    """Versions by name."""

    items: list[ObjectAnswer]
    next: str


class ImportBody(Model):
    """What is imported, and as what."""

    upstream: str = Field(min_length=1, max_length=200, examples=["hf://org/repo"])
    name: str = Field(
        min_length=1,
        max_length=200,
        description="account/name[@version]; without a version: the next number.",
        examples=["acme/my-model"],
    )
    base: str = Field("", max_length=200, description="Of an adapter; empty: as it says itself.")


class ImportAnswer(Model):
    """An import, which runs on when this was answered."""

    id: str
    upstream: str
    name: str
    state: str = Field(description="running, done or failed.")
    stage: str
    received_bytes: int
    total_bytes: int
    error: str
    began_unix_ms: int


class ImportPage(Model):
    """Imports since the coordinator's start, newest first."""

    items: list[ImportAnswer]


def _object(found: RegistryObject, account_id: str) -> ObjectAnswer:
    row, about = found.row, found.publication
    assert not isinstance(row, Runtime)
    return ObjectAnswer(
        name=row.name,
        kind="adapter" if isinstance(row, Adapter) else "model",
        own=row.account_id == account_id,
        base=row.model if isinstance(row, Adapter) else "",
        size_class=row.size_class if isinstance(row, ModelRow) else "",
        context_tokens=row.context_tokens if isinstance(row, ModelRow) else 0,
        weights_bytes=row.weights_bytes,
        size_bytes=sum(file.size_bytes for file in found.files),
        revision=found.revision,
        source=about.source,
        licence=about.licence,
        published_unix_ms=about.published_unix_ms,
        is_latest=found.is_latest,
    )


def _ref(call: Call) -> str:
    """Return what the path names; a name without an owner is the account's own."""
    ref = call.params["ref"]
    return ref if "/" in ref else f"{call.actor.account_id}/{ref}"


async def _list(kind: ObjectKind, call: Call) -> ObjectPage:
    asked = call.asked(PageQuery)
    found = await call.operations.registry.list_all(call.actor, kind)
    page, following = page_of(found, lambda one: one.row.name, asked.limit, asked.cursor)
    return ObjectPage(items=[_object(one, call.actor.account_id) for one in page], next=following)


async def _show(kind: ObjectKind, call: Call) -> ObjectAnswer:
    found = await call.operations.registry.show(call.actor, _ref(call), kind)
    return _object(found, call.actor.account_id)


async def _remove(kind: ObjectKind, call: Call) -> None:
    await call.operations.registry.remove(call.actor, _ref(call), kind)


def _import(job: Job) -> ImportAnswer:
    return ImportAnswer(
        id=job.id,
        upstream=job.upstream,
        name=job.name,
        state=job.state,
        stage=job.stage,
        received_bytes=job.received_bytes,
        total_bytes=job.total_bytes,
        error=job.error,
        began_unix_ms=job.began_unix_ms,
    )


async def _begin_import(call: Call) -> ImportAnswer:
    body, actor = call.given(ImportBody), call.actor
    imports = call.operations.upstream_imports
    # Told before it runs on alone; the use case checks again.
    parse_upstream(body.upstream)
    check_owner(actor, body.name)
    new = NewImport(body.upstream, body.name, actor.account_id, body.base)

    async def work(job: Job) -> str:
        def report(progress: Progress) -> None:
            job.stage = progress.stage
            job.received_bytes, job.total_bytes = progress.received_bytes, progress.total_bytes

        imported = await imports.run(actor, body.name, new, report)
        return imported.object.row.name

    return _import(call.services.imports.begin(actor.account_id, body.upstream, body.name, work))


async def _imports(call: Call) -> ImportPage:
    await call.operations.accounts.show(call.actor)
    return ImportPage(
        items=[_import(one) for one in call.services.imports.of(call.actor.account_id)]
    )


async def _show_import(call: Call) -> ImportAnswer:
    await call.operations.accounts.show(call.actor)
    job = call.services.imports.find(call.actor.account_id, call.params["import_id"])
    return _import(job)


def _routes_of(kind: ObjectKind) -> tuple[Route, ...]:
    plural, params = f"{kind}s", {"ref": OBJECT_REF}
    article = "an" if kind is ObjectKind.ADAPTER else "a"
    return (
        Route(
            "GET",
            f"/v1/{plural}",
            f"list_{plural}",
            f"List the {plural} that can be deployed: the account's own, and the operators'.",
            partial(_list, kind),
            Act.OBJECT_LIST,
            ObjectPage,
            query=PageQuery,
        ),
        Route(
            "GET",
            f"/v1/{plural}/{{ref}}",
            f"show_{kind}",
            f"Show {article} {kind}; without a version the latest.",
            partial(_show, kind),
            Act.OBJECT_SHOW,
            ObjectAnswer,
            params=params,
        ),
        Route(
            "DELETE",
            f"/v1/{plural}/{{ref}}",
            f"remove_{kind}",
            f"Remove a version of {article} {kind} of your own that nothing uses.",
            partial(_remove, kind),
            Act.OBJECT_REMOVE,
            status=204,
            params=params,
        ),
    )


ROUTES = (
    Route(
        "POST",
        "/v1/models:import",
        "import_model",
        "Import a model or an adapter from another hub; it runs on when this was answered.",
        _begin_import,
        Act.UPSTREAM_IMPORT,
        ImportAnswer,
        202,
        ImportBody,
    ),
    Route(
        "GET",
        "/v1/imports",
        "list_imports",
        "List imports of the account, newest first.",
        _imports,
        Act.ACCOUNT_SHOW,
        ImportPage,
    ),
    Route(
        "GET",
        "/v1/imports/{import_id}",
        "show_import",
        "Show how far an import is.",
        _show_import,
        Act.ACCOUNT_SHOW,
        ImportAnswer,
        params={"import_id": IMPORT_ID},
    ),
    *_routes_of(ObjectKind.MODEL),
    *_routes_of(ObjectKind.ADAPTER),
)
