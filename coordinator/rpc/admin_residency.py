"""The residency service: zones of accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.rpc.admin_base import AdminServicerBase
from protos.domain.errors import NotFound
from protos.v1 import residency_pb2, residency_pb2_grpc

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.rpc.identity import Context


class ResidencyService(AdminServicerBase, residency_pb2_grpc.AccountResidencyServicer):
    """Every call of ``residency.proto``: a request, a use case, a message."""

    async def SetAccountZones(
        self, request: residency_pb2.SetAccountZonesRequest, context: Context
    ) -> residency_pb2.AccountZones:
        """Bind an account to zones."""
        actor = self._actor(context)
        await self._operations.accounts.set_zones(actor, request.account_id, request.zones)
        return await self._zones(actor, request.account_id)

    async def ShowAccountZones(
        self, request: residency_pb2.ShowAccountZonesRequest, context: Context
    ) -> residency_pb2.AccountZones:
        """Return what an account is bound to."""
        return await self._zones(self._actor(context), request.account_id)

    async def _zones(self, actor: Actor, account_id: str) -> residency_pb2.AccountZones:
        """Raises: NotFound."""
        operations = self._operations
        found = [one for one in await operations.accounts.list_all(actor) if one.id == account_id]
        if not found:
            raise NotFound(f"there is no account {account_id[:80]!r}", "`edgeforge account ls`")
        keys = await operations.keys.list_all(actor, account_id)
        deployments = await operations.deployments.list_all(actor)
        return residency_pb2.AccountZones(
            account_id=account_id,
            zones=found[0].zones,
            keys=[
                residency_pb2.BoundName(name=one.key.id, zones=one.key.zones)
                for one in keys
                if one.key.zones
            ],
            deployments=[
                residency_pb2.BoundName(name=row.name, zones=row.residency_zones)
                for row in (one.deployment for one in deployments)
                if row.account_id == account_id and row.residency_zones
            ],
        )
