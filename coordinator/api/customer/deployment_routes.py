"""Routes about deployments: a name that clients call, its versions, and the way back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from coordinator.api.customer.pages import page_of
from coordinator.api.customer.route import Call, Model, PageQuery, Param, Route
from coordinator.core.rollout import RolloutPhase
from coordinator.operations.acts import Act
from coordinator.operations.deployments import MAX_TTFT_BUDGET_MS
from coordinator.operations.deploys import MAX_PREMIUM_PERCENT
from protos.domain.resources import Deployment, ReplicaState, SlaTier

if TYPE_CHECKING:
    from coordinator.operations.deploys import DeployStatus

DEPLOYMENT = Param(
    r"[A-Za-z0-9][A-Za-z0-9_./@:-]{0,127}",
    "A deployment's name, its slash as %2F; without an account: the account's own.",
    "support",
)
_PREPARING = "preparing"
Sla = Literal["realtime", "interactive", "standard"]
Zone = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
Ref = Annotated[str, Field(max_length=200)]
Budget = Annotated[int, Field(ge=1, le=MAX_TTFT_BUDGET_MS)]
Premium = Annotated[int, Field(ge=0, le=MAX_PREMIUM_PERCENT)]


class DeploymentBody(Model):
    """A new deployment."""

    name: str = Field(
        min_length=1,
        max_length=128,
        pattern=f"^{DEPLOYMENT.pattern}$",
        description="account/name: what clients put into `model`.",
        examples=["acme/support"],
    )
    model: Ref = Field(description="owner/name@version; without a version: the latest of now.")
    adapter: Ref = ""
    runtime: Ref = ""
    ttft_budget_ms: Budget = Field(description="P99 of the first token.")
    sla_tier: Sla = "standard"
    residency_zones: list[Zone] = Field([], max_length=50)
    strict: bool = Field(False, description="Refuse what would miss the budget.")
    continue_streams: bool = False
    max_premium_percent: Premium = Field(
        0, description="Most above the cheapest central price; 0: no limit."
    )


class DeploymentPatch(Model):
    """What is changed; what is left out stays."""

    model: Ref | None = None
    adapter: Ref | None = Field(None, description="Empty: without an adapter.")
    runtime: Ref | None = None
    ttft_budget_ms: Budget | None = None
    sla_tier: Sla | None = None
    residency_zones: list[Zone] | None = Field(None, max_length=50)
    strict: bool | None = None
    continue_streams: bool | None = None
    max_premium_percent: Premium | None = None
    revision: int = Field(
        0, ge=0, le=2**31 - 1, description="That this was made from; 0: the present one."
    )


class RollbackBody(Model):
    """Where to go back to."""

    revision: int = Field(0, ge=0, le=2**31 - 1, description="0: the one before.")


class VersionAnswer(Model):
    """One version of a deployment."""

    revision: int
    model: str
    adapter: str
    runtime: str
    ttft_budget_ms: int
    sla_tier: str
    residency_zones: list[str]
    strict: bool
    continue_streams: bool
    max_premium_percent: int


class RevisionAnswer(VersionAnswer):
    """One version, and who made it."""

    by: str
    at_unix_ms: int
    reason: str


class DeploymentAnswer(VersionAnswer):
    """A deployment."""

    name: str
    state: str = Field(description="serving, waiting, or preparing a change.")
    serving: bool
    nodes_serving: int
    waits_for: str = Field(description="Why it is not served yet; empty: it is.")
    next_revision: int = Field(description="Of the change that is prepared; 0: none.")


class DeploymentDetail(DeploymentAnswer):
    """A deployment with its history, newest first."""

    revisions: list[RevisionAnswer]


class DeploymentPage(Model):
    """Deployments by name."""

    items: list[DeploymentAnswer]
    next: str


def _version(one: Deployment) -> dict[str, object]:
    return {
        "revision": one.revision,
        "model": one.model,
        "adapter": one.adapter,
        "runtime": one.runtime,
        "ttft_budget_ms": one.ttft_budget_ms,
        "sla_tier": one.sla_tier.value,
        "residency_zones": list(one.residency_zones),
        "strict": one.strict,
        "continue_streams": one.continue_streams,
        "max_premium_percent": one.max_premium_percent,
    }


def _summary(status: DeployStatus) -> dict[str, object]:
    rollout = status.rollout
    prepares = rollout is not None and rollout.phase is RolloutPhase.PREPARING
    state = "serving" if status.served else "waiting"
    return {
        **_version(status.deployment),
        "name": status.deployment.name,
        "state": _PREPARING if prepares else state,
        "serving": status.served,
        "nodes_serving": sum(one.serves and not one.is_next for one in status.nodes),
        "waits_for": "" if status.served else _waits_for(status),
        "next_revision": rollout.other.revision if prepares and rollout is not None else 0,
    }


def _waits_for(status: DeployStatus) -> str:
    """Return why no node serves it yet, without the names of nodes."""
    nodes = [one for one in status.nodes if not one.is_next]
    if not nodes:
        return "a node with room for it" if status.unplaced else "a place at a node"
    failed = sum(one.state is ReplicaState.FAILED for one in nodes)
    if failed == len(nodes):
        return f"the provider: {failed} of {len(nodes)} nodes failed to load it"
    total = sum(one.total_bytes for one in nodes)
    if total:
        pulled = sum(one.pulled_bytes for one in nodes)
        return f"its weights: {pulled * 100 // total} % have reached {len(nodes)} nodes"
    return f"{len(nodes)} nodes that load it"


def _detail(status: DeployStatus) -> DeploymentDetail:
    revisions = [
        RevisionAnswer.model_validate(
            {
                **_version(one.deployment),
                # Customers are not told the names of operators.
                "by": one.by if one.by.startswith("member/") else one.by.partition("/")[0],
                "at_unix_ms": one.at_unix_ms,
                "reason": one.reason,
            }
        )
        for one in status.revisions
    ]
    return DeploymentDetail.model_validate({**_summary(status), "revisions": revisions})


async def found_deployment(call: Call) -> DeployStatus:
    """Return what the path names: in full, or without the account. Raises: NotFound."""
    name, deploys = call.params["name"], call.operations.deploys
    prefixed = f"{call.actor.account_id}/{name}"
    own = {one.deployment.name: one for one in await deploys.list_all(call.actor)}
    if name not in own and prefixed in own:
        name = prefixed
    return await deploys.show(call.actor, name)


async def _create(call: Call) -> DeploymentDetail:
    body = call.given(DeploymentBody)
    made = Deployment(
        name=body.name,
        account_id=call.actor.account_id,
        model=body.model,
        adapter=body.adapter,
        runtime=body.runtime,
        ttft_budget_ms=body.ttft_budget_ms,
        sla_tier=SlaTier(body.sla_tier),
        residency_zones=tuple(body.residency_zones),
        strict=body.strict,
        continue_streams=body.continue_streams,
        max_premium_percent=body.max_premium_percent,
    )
    return _detail(await call.operations.deploys.create(call.actor, made, ()))


async def _list(call: Call) -> DeploymentPage:
    asked = call.asked(PageQuery)
    found = await call.operations.deploys.list_all(call.actor)
    page, following = page_of(found, lambda one: one.deployment.name, asked.limit, asked.cursor)
    items = [DeploymentAnswer.model_validate(_summary(one)) for one in page]
    return DeploymentPage(items=items, next=following)


async def _show(call: Call) -> DeploymentDetail:
    return _detail(await found_deployment(call))


async def _update(call: Call) -> DeploymentDetail:
    patch, present = call.given(DeploymentPatch), await found_deployment(call)
    given = patch.model_dump(exclude_none=True, exclude={"sla_tier", "residency_zones"})
    if patch.sla_tier is not None:
        given["sla_tier"] = SlaTier(patch.sla_tier)
    if patch.residency_zones is not None:
        given["residency_zones"] = tuple(patch.residency_zones)
    given["revision"] = patch.revision or present.deployment.revision
    pins = present.deployment.pins
    changed = replace(present.deployment, pins=None, **given)
    return _detail(await call.operations.deploys.update(call.actor, changed, pins))


async def _rollback(call: Call) -> DeploymentDetail:
    present = await found_deployment(call)
    return _detail(
        await call.operations.deploys.rollback(
            call.actor, present.deployment.name, call.given(RollbackBody).revision
        )
    )


async def _remove(call: Call) -> None:
    present = await found_deployment(call)
    await call.operations.deployments.remove(call.actor, present.deployment.name)


_NAMED = {"name": DEPLOYMENT}
ROUTES = (
    Route(
        "POST",
        "/v1/deployments",
        "create_deployment",
        "Put a model, with an adapter and a runtime, behind a name.",
        _create,
        Act.DEPLOY_CREATE,
        DeploymentDetail,
        201,
        DeploymentBody,
    ),
    Route(
        "GET",
        "/v1/deployments",
        "list_deployments",
        "List the deployments of the account.",
        _list,
        Act.DEPLOY_LIST,
        DeploymentPage,
        query=PageQuery,
    ),
    Route(
        "GET",
        "/v1/deployments/{name}",
        "show_deployment",
        "Show a deployment and its history.",
        _show,
        Act.DEPLOY_SHOW,
        DeploymentDetail,
        params=_NAMED,
    ),
    Route(
        "PATCH",
        "/v1/deployments/{name}",
        "update_deployment",
        "Change a deployment; other weights are made ready first, and then switched to.",
        _update,
        Act.DEPLOY_UPDATE,
        DeploymentDetail,
        body=DeploymentPatch,
        params=_NAMED,
    ),
    Route(
        "POST",
        "/v1/deployments/{name}/rollback",
        "rollback_deployment",
        "Return to an earlier revision, or withdraw a change that is prepared.",
        _rollback,
        Act.DEPLOY_ROLLBACK,
        DeploymentDetail,
        body=RollbackBody,
        params=_NAMED,
    ),
    Route(
        "DELETE",
        "/v1/deployments/{name}",
        "remove_deployment",
        "Remove a deployment; clients that call it get 404 from then on.",
        _remove,
        Act.DEPLOYMENT_REMOVE,
        status=204,
        params=_NAMED,
    ),
)
