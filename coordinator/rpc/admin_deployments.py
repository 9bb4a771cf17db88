"""Deployments, and the nodes that operators pin them to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.rpc.admin_base import AdminServicerBase
from protos.domain.errors import InvalidRequest
from protos.v1 import admin_pb2, resources_pb2
from protos.wire import deployment_from_wire, deployment_to_wire, replica_to_wire

if TYPE_CHECKING:
    from coordinator.operations.deployments import PlacedDeployment
    from coordinator.rpc.identity import Context
    from protos.domain.resources import Deployment


class DeploymentAdminServicer(AdminServicerBase):
    """Deployments and their placement."""

    async def ApplyDeployment(
        self, request: admin_pb2.ApplyDeploymentRequest, context: Context
    ) -> admin_pb2.DeploymentInfo:
        """Create a deployment, or replace it unless ``create_only`` is set."""
        placed = await self._operations.deployments.apply(
            self._actor(context),
            deployment_of(request.deployment),
            request.node_ids,
            create_only=request.create_only,
        )
        return _info(placed)

    async def ListDeployments(
        self, request: admin_pb2.ListDeploymentsRequest, context: Context
    ) -> admin_pb2.ListDeploymentsResponse:
        """Return every deployment by name, with the replicas of its model."""
        placed = await self._operations.deployments.list_all(self._actor(context))
        return admin_pb2.ListDeploymentsResponse(deployments=map(_info, placed))

    async def RemoveDeployment(
        self, request: admin_pb2.RemoveDeploymentRequest, context: Context
    ) -> admin_pb2.RemoveDeploymentResponse:
        """Remove a deployment; clients that call it get 404 from then on."""
        await self._operations.deployments.remove(self._actor(context), request.name)
        return admin_pb2.RemoveDeploymentResponse()


def _info(placed: PlacedDeployment) -> admin_pb2.DeploymentInfo:
    return admin_pb2.DeploymentInfo(
        deployment=deployment_to_wire(placed.deployment),
        node_ids=placed.node_ids,
        replicas=map(replica_to_wire, placed.replicas),
        errors=placed.errors,
    )


def deployment_of(message: resources_pb2.Deployment) -> Deployment:
    """Return a deployment, its SLA standard unless given. Raises: InvalidRequest."""
    known = resources_pb2.Deployment()
    known.CopyFrom(message)
    del known.node_ids[:]  # pins are the request's own field
    known.ClearField("next")  # only a roll-out sets it
    if known.sla_tier == resources_pb2.SLA_TIER_UNSPECIFIED:
        known.sla_tier = resources_pb2.SLA_TIER_STANDARD
    try:
        return deployment_from_wire(known)
    except KeyError:
        raise InvalidRequest("sla_tier must be realtime, interactive or standard") from None
