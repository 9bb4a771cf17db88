"""Operators: invitations, roles, revocation, renewal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.rpc.admin_base import AdminServicerBase
from protos.v1 import admin_pb2

if TYPE_CHECKING:
    from coordinator.core.operators import Operator
    from coordinator.rpc.identity import Context


class OperatorAdminServicer(AdminServicerBase):
    """Operators."""

    async def InviteOperator(
        self, request: admin_pb2.InviteOperatorRequest, context: Context
    ) -> admin_pb2.InviteOperatorResponse:
        """Return a token that makes one operator, once."""
        invitation = await self._operations.operators.invite(
            self._actor(context),
            request.name,
            request.role,
            ttl_s=request.ttl_s,
            local=request.local,
        )
        return admin_pb2.InviteOperatorResponse(
            token=invitation.text,
            name=invitation.name,
            role=invitation.role,
            expires_unix_ms=invitation.expires_unix_ms,
            enrolment_address=invitation.enrolment_address,
            admin_address=invitation.admin_address,
        )

    async def ListOperators(
        self, request: admin_pb2.ListOperatorsRequest, context: Context
    ) -> admin_pb2.ListOperatorsResponse:
        """Return every operator by name, and which of them asks."""
        actor = self._actor(context)
        operators = await self._operations.operators.list_all(actor)
        return admin_pb2.ListOperatorsResponse(operators=map(_info, operators), caller=actor.name)

    async def RevokeOperator(
        self, request: admin_pb2.RevokeOperatorRequest, context: Context
    ) -> admin_pb2.RevokeOperatorResponse:
        """Refuse an operator from now on."""
        await self._operations.operators.revoke(self._actor(context), request.name)
        return admin_pb2.RevokeOperatorResponse()

    async def SetOperatorRole(
        self, request: admin_pb2.SetOperatorRoleRequest, context: Context
    ) -> admin_pb2.OperatorInfo:
        """Give an operator another role."""
        operators = self._operations.operators
        return _info(await operators.set_role(self._actor(context), request.name, request.role))

    async def RenewOperator(
        self, request: admin_pb2.RenewOperatorRequest, context: Context
    ) -> admin_pb2.RenewOperatorResponse:
        """Return a new certificate for the caller's own key."""
        renewed = await self._operations.operators.renew(self._actor(context), request.csr_der)
        return admin_pb2.RenewOperatorResponse(
            certificate_pem=renewed.certificate_pem, ca_bundle_pem=renewed.ca_bundle_pem
        )


def _info(operator: Operator) -> admin_pb2.OperatorInfo:
    return admin_pb2.OperatorInfo(
        name=operator.name,
        role=operator.role,
        created_unix_ms=operator.created_unix_ms,
        invited_by=operator.invited_by,
        certificate_not_after_unix_ms=operator.certificate_not_after_unix_ms,
        revoked_unix_ms=operator.revoked_unix_ms,
    )
