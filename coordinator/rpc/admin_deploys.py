"""The deploys' service: deployments with their history, and the replica plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.core.rollout import RolloutPhase
from coordinator.rpc.admin_base import AdminServicerBase
from coordinator.rpc.admin_deployments import deployment_of
from protos.v1 import deploy_pb2, deploy_pb2_grpc
from protos.wire import deployment_to_wire

if TYPE_CHECKING:
    from coordinator.core.deploy_progress import NodeProgress
    from coordinator.core.plan_draft import Planned
    from coordinator.core.plan_input import Rule
    from coordinator.core.planned_rows import PlanMove
    from coordinator.fleet.placement_writer import PlanShown
    from coordinator.operations.deploys import DeployStatus
    from coordinator.rpc.identity import Context
    from protos.domain.resources import Deployment

#: Fields of an update that are set as they come.
_PLAIN = ("model", "adapter", "runtime", "ttft_budget_ms", "strict", "continue_streams")


class DeployService(AdminServicerBase, deploy_pb2_grpc.DeploysServicer):
    """Every call of ``deploy.proto``: a request, a use case, a message."""

    async def CreateDeploy(
        self, request: deploy_pb2.DeployRequest, context: Context
    ) -> deploy_pb2.DeployStatus:
        """Create a deployment."""
        status = await self._operations.deploys.create(
            self._actor(context), deployment_of(request.deployment), request.node_ids
        )
        return _status(status)

    async def UpdateDeploy(
        self, request: deploy_pb2.UpdateDeployRequest, context: Context
    ) -> deploy_pb2.DeployStatus:
        """Change what the request names."""
        actor, deploys = self._actor(context), self._operations.deploys
        present = await deploys.show(actor, request.name)
        node_ids = present.deployment.pins
        if request.sets_nodes:
            node_ids = frozenset(request.node_ids) or None
        changed = _changed(present.deployment, request)
        return _status(
            await deploys.update(actor, changed, node_ids, timeout_ms=request.timeout_ms)
        )

    async def RollbackDeploy(
        self, request: deploy_pb2.RollbackDeployRequest, context: Context
    ) -> deploy_pb2.DeployStatus:
        """Return to an earlier revision, or withdraw a change."""
        status = await self._operations.deploys.rollback(
            self._actor(context), request.name, request.revision, timeout_ms=request.timeout_ms
        )
        return _status(status)

    async def ShowDeploy(
        self, request: deploy_pb2.ShowDeployRequest, context: Context
    ) -> deploy_pb2.DeployStatus:
        """Return one deployment, and what it waits for."""
        return _status(await self._operations.deploys.show(self._actor(context), request.name))

    async def ListDeploys(
        self, request: deploy_pb2.ListDeploysRequest, context: Context
    ) -> deploy_pb2.ListDeploysResponse:
        """Return every deployment by name."""
        found = await self._operations.deploys.list_all(self._actor(context))
        return deploy_pb2.ListDeploysResponse(deploys=map(_status, found))

    async def ShowPlan(
        self, request: deploy_pb2.ShowPlanRequest, context: Context
    ) -> deploy_pb2.PlanInfo:
        """Return the plan as it would be made now."""
        shown = await self._operations.plans.show(self._actor(context))
        return _plan(shown, request.node_id)

    async def FreezePlan(
        self, request: deploy_pb2.FreezePlanRequest, context: Context
    ) -> deploy_pb2.PlanInfo:
        """Freeze the plan at POPs."""
        actor, plans = self._actor(context), self._operations.plans
        return _plan(await plans.freeze(actor, [] if request.everywhere else request.pop_ids))

    async def UnfreezePlan(
        self, request: deploy_pb2.UnfreezePlanRequest, context: Context
    ) -> deploy_pb2.PlanInfo:
        """Let the plan be carried out at POPs again."""
        actor, plans = self._actor(context), self._operations.plans
        return _plan(await plans.unfreeze(actor, [] if request.everywhere else request.pop_ids))

    async def ApplyPlan(
        self, request: deploy_pb2.ApplyPlanRequest, context: Context
    ) -> deploy_pb2.PlanInfo:
        """Carry out the plan once where it is frozen; return what is moved."""
        shown = await self._operations.plans.apply(self._actor(context), request.pop_ids)
        return _plan(shown)

    async def PinPlan(self, request: deploy_pb2.PlanRule, context: Context) -> deploy_pb2.PlanInfo:
        """Have a model held hot somewhere."""
        plans, where = self._operations.plans, (request.pop_id, request.node_id)
        return _plan(await plans.pin(self._actor(context), request.name, *where))

    async def ForbidPlan(
        self, request: deploy_pb2.PlanRule, context: Context
    ) -> deploy_pb2.PlanInfo:
        """Have a model or an adapter not held somewhere."""
        plans, where = self._operations.plans, (request.pop_id, request.node_id)
        return _plan(await plans.forbid(self._actor(context), request.name, *where))

    async def ReleasePlan(
        self, request: deploy_pb2.PlanRule, context: Context
    ) -> deploy_pb2.PlanInfo:
        """Remove a pin or a prohibition."""
        plans, where = self._operations.plans, (request.pop_id, request.node_id)
        return _plan(await plans.release(self._actor(context), request.name, *where))


def _changed(present: Deployment, request: deploy_pb2.UpdateDeployRequest) -> Deployment:
    """Return a deployment with what the request names. Raises: InvalidRequest."""
    message = deployment_to_wire(present)
    for name in (*_PLAIN, "sla_tier", "max_premium_percent"):
        if request.HasField(name):  # type: ignore[arg-type]
            setattr(message, name, getattr(request, name))
    if request.sets_residency:
        message.residency_zones[:] = request.residency_zones
    return replace(deployment_of(message), pins=None)


def _status(status: DeployStatus) -> deploy_pb2.DeployStatus:
    message = deploy_pb2.DeployStatus(
        deployment=deployment_to_wire(status.deployment),
        node_ids=status.node_ids,
        nodes=map(_node, status.nodes),
        revisions=[
            deploy_pb2.DeployRevision(
                deployment=deployment_to_wire(one.deployment),
                by=one.by,
                at_unix_ms=one.at_unix_ms,
                reason=one.reason,
            )
            for one in status.revisions
        ],
        waits_for=status.waits_for,
        unplaced=status.unplaced,
        served=status.served,
    )
    rollout = status.rollout
    if rollout is not None:
        message.rollout.CopyFrom(
            deploy_pb2.DeployRollout(
                phase=rollout.phase,
                other=deployment_to_wire(rollout.other),
                by=rollout.by,
                reason=rollout.reason,
                since_unix_ms=rollout.since_unix_ms,
                until_unix_ms=(
                    rollout.until_unix_ms if rollout.phase is RolloutPhase.PREPARING else 0
                ),
            )
        )
    if (gone := status.withdrawn) is not None:
        message.withdrawn.CopyFrom(
            deploy_pb2.DeployWithdrawn(
                revision=gone.number,
                reason=gone.reason,
                by=gone.by,
                why=gone.why,
                at_unix_ms=gone.at_unix_ms,
            )
        )
    return message


def _node(one: NodeProgress) -> deploy_pb2.DeployNode:
    return deploy_pb2.DeployNode(
        node_id=one.node_id,
        name=one.name,
        hold=one.hold,
        state=one.state or "",
        residency=one.residency if one.state else "",
        pulled_bytes=one.pulled_bytes,
        total_bytes=one.total_bytes,
        error=one.error,
        connected=one.connected,
        next=one.is_next,
        generation=one.generation,
    )


def _plan(shown: PlanShown, node_id: str = "") -> deploy_pb2.PlanInfo:
    rules = shown.fleet.rules
    drafts = [one for one in shown.plan.nodes.values() if node_id in ("", one.node_id)]
    return deploy_pb2.PlanInfo(
        holds=[
            _hold(draft.node_id, name, planned)
            for draft in drafts
            for name, planned in (*draft.models.items(), *draft.adapters.items())
        ],
        pending=[_move(one, 0) for one in shown.pending if node_id in ("", one.node_id)],
        recent=[
            _move(one, at_unix_ms)
            for at_unix_ms, one in reversed(shown.recent)
            if node_id in ("", one.node_id)
        ],
        unplaced=[
            deploy_pb2.PlanUnplaced(
                deployment=one.deployment, node_id=one.node_id, reason=one.reason
            )
            for one in shown.plan.unplaced
        ],
        pins=_rules(rules.pins),
        forbids=_rules(rules.forbids),
        frozen=[deploy_pb2.FrozenPop(pop_id=pop_id, by=by) for pop_id, by in rules.frozen.items()],
    )


def _hold(node_id: str, name: str, planned: Planned) -> deploy_pb2.PlannedHold:
    return deploy_pb2.PlannedHold(node_id=node_id, name=name, hold=planned.hold, why=planned.why)


def _move(one: PlanMove, at_unix_ms: int) -> deploy_pb2.PlanMove:
    return deploy_pb2.PlanMove(
        node_id=one.node_id,
        name=one.name,
        before=one.before or "",
        after=one.after or "",
        why=one.why,
        at_unix_ms=at_unix_ms,
    )


def _rules(rules: Iterable[Rule]) -> list[deploy_pb2.PlanRule]:
    return [
        deploy_pb2.PlanRule(name=one.name, pop_id=one.pop_id, node_id=one.node_id, by=one.by)
        for one in rules
    ]
