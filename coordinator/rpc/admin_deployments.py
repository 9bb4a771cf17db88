"""Deployments, and the nodes that operators pin them to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.rpc.admin_parts import AdminServicerBase, note_of
from protos.domain.errors import InvalidRequest, NotFound
from protos.domain.ids import (
    check_account_id,
    check_deployment_name,
    check_model_name,
    check_node_id,
    check_zone,
)
from protos.domain.resources import Deployment, Model, ModelSource
from protos.v1 import admin_pb2, resources_pb2
from protos.wire import deployment_from_wire, deployment_to_wire, replica_to_wire

if TYPE_CHECKING:
    from coordinator.rpc.identity import Context

MAX_TTFT_BUDGET_MS = 600_000
_MAX_NODES = 1_000
_MAX_ZONES = 50
#: The engine kind that can hold a model of each source.
_ENGINE_OF = {ModelSource.MANAGED: "vllm", ModelSource.EXTERNAL: "external"}


class DeploymentAdminServicer(AdminServicerBase):
    """Deployments and their placement."""

    async def ApplyDeployment(
        self, request: admin_pb2.ApplyDeploymentRequest, context: Context
    ) -> admin_pb2.DeploymentInfo:
        """Create a deployment, or replace it unless ``create_only`` is set."""
        deployment = _checked_deployment(request.deployment)
        model = self._store.view().models.get(deployment.model)
        if model is None:
            names = sorted(self._store.view().models)
            raise NotFound(
                f"there is no model {deployment.model!r}",
                f"there are {', '.join(names[:10])}" if names else "`edgeforge model import PATH`",
            )
        node_ids = tuple(sorted({check_node_id(node_id) for node_id in request.node_ids}))
        self._check_nodes(deployment, model, node_ids)
        detail = (
            f"account={deployment.account_id} model={deployment.model}"
            f" ttft_budget_ms={deployment.ttft_budget_ms} sla={deployment.sla_tier}"
            f" zones={','.join(deployment.residency_zones)} nodes={','.join(node_ids)}"
        )
        await self._store.put_deployment(
            deployment,
            node_ids,
            create_only=request.create_only,
            note=note_of(context, "deployment.apply", f"deployment/{deployment.name}", detail),
        )
        return self._info(deployment)

    async def ListDeployments(
        self, request: admin_pb2.ListDeploymentsRequest, context: Context
    ) -> admin_pb2.ListDeploymentsResponse:
        """Return every deployment by name, with the replicas of its model."""
        deployments = sorted(self._store.view().deployments.values(), key=lambda one: one.name)
        return admin_pb2.ListDeploymentsResponse(
            deployments=[self._info(deployment) for deployment in deployments]
        )

    async def RemoveDeployment(
        self, request: admin_pb2.RemoveDeploymentRequest, context: Context
    ) -> admin_pb2.RemoveDeploymentResponse:
        """Remove a deployment; clients that call it get 404 from then on."""
        name = check_deployment_name(request.name)
        await self._store.remove_deployment(
            name, note=note_of(context, "deployment.remove", f"deployment/{name}")
        )
        return admin_pb2.RemoveDeploymentResponse()

    def _info(self, deployment: Deployment) -> admin_pb2.DeploymentInfo:
        replicas = self._store.view().replicas.get(deployment.model, {})
        return admin_pb2.DeploymentInfo(
            deployment=deployment_to_wire(deployment),
            node_ids=self._store.placements().get(deployment.name, ()),
            replicas=[replica_to_wire(replica) for _, replica in sorted(replicas.items())],
        )

    def _check_nodes(self, deployment: Deployment, model: Model, node_ids: Sequence[str]) -> None:
        """Raises: NotFound, InvalidRequest: what the node lacks, and which nodes are suitable."""
        if len(node_ids) > _MAX_NODES:
            raise InvalidRequest(f"{len(node_ids)} nodes are more than {_MAX_NODES}")
        wanted = _ENGINE_OF[model.source]
        records = self._store.node_records()
        for node_id in node_ids:
            record = records.get(node_id)
            if record is None:
                raise NotFound(f"no node {node_id!r} is enrolled", self._who_could(wanted))
            if record.engine_kind != wanted:
                has = {"": "has not connected yet", "none": "has no engine"}.get(
                    record.engine_kind, f"has an engine of kind {record.engine_kind!r}"
                )
                raise InvalidRequest(
                    f"node {node_id!r} {has}, a {model.source} model needs {wanted!r}",
                    self._who_could(wanted),
                )
            zone = self._zone_of(record.pop_id)
            if deployment.residency_zones and zone not in deployment.residency_zones:
                raise InvalidRequest(
                    f"node {node_id!r} is in zone {zone}, the deployment may only run in "
                    + ", ".join(deployment.residency_zones),
                    "leave that node out, or widen residency_zones",
                )

    def _zone_of(self, pop_id: str) -> str:
        pop = self._store.view().pops.get(pop_id)
        return pop.zone if pop else "unknown"

    def _who_could(self, engine_kind: str) -> str:
        fitting = sorted(
            node_id
            for node_id, record in self._store.node_records().items()
            if record.engine_kind == engine_kind
        )
        if not fitting:
            return f"no node has an engine of kind {engine_kind!r} yet: `edgeforge node ls`"
        more = f" and {len(fitting) - 10} more" if len(fitting) > 10 else ""
        return f"nodes with such an engine: {', '.join(fitting[:10])}{more}"


def _checked_deployment(message: resources_pb2.Deployment) -> Deployment:
    """Raises: InvalidRequest."""
    check_deployment_name(message.name)
    check_account_id(message.account_id)
    check_model_name(message.model)
    if message.adapter:
        raise InvalidRequest("adapters cannot be deployed yet", "leave adapter empty")
    if not 0 < message.ttft_budget_ms <= MAX_TTFT_BUDGET_MS:
        raise InvalidRequest(
            f"a first-token budget of {message.ttft_budget_ms} ms is not in 1..{MAX_TTFT_BUDGET_MS}"
        )
    if len(message.residency_zones) > _MAX_ZONES:
        raise InvalidRequest(f"{len(message.residency_zones)} zones are more than {_MAX_ZONES}")
    for zone in message.residency_zones:
        check_zone(zone)
    known = resources_pb2.Deployment()
    known.CopyFrom(message)
    if known.sla_tier == resources_pb2.SLA_TIER_UNSPECIFIED:
        known.sla_tier = resources_pb2.SLA_TIER_STANDARD
    try:
        deployment = deployment_from_wire(known)
    except KeyError:
        raise InvalidRequest("sla_tier must be realtime, interactive or standard") from None
    return replace(deployment, residency_zones=tuple(sorted(set(deployment.residency_zones))))
