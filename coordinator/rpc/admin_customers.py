"""Accounts and their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.operations.keys import Scopes
from coordinator.rpc.admin_base import AdminServicerBase
from protos.v1 import admin_pb2
from protos.wire import limits_from_wire, limits_to_wire

if TYPE_CHECKING:
    from typing import Literal

    from coordinator.rpc.identity import Context
    from protos.domain.customers import Account

    Limit = Literal["max_concurrent_sequences", "requests_per_minute", "tokens_per_minute"]

_LIMITS: tuple[Limit, ...] = (
    "max_concurrent_sequences",
    "requests_per_minute",
    "tokens_per_minute",
)


class CustomerAdminServicer(AdminServicerBase):
    """Accounts and keys."""

    async def CreateAccount(
        self, request: admin_pb2.CreateAccountRequest, context: Context
    ) -> admin_pb2.CreateAccountResponse:
        """Create an account."""
        account_id = await self._operations.accounts.create(self._actor(context), request.id)
        return admin_pb2.CreateAccountResponse(id=account_id)

    async def ListAccounts(
        self, request: admin_pb2.ListAccountsRequest, context: Context
    ) -> admin_pb2.ListAccountsResponse:
        """Return every account."""
        shown = await self._operations.accounts.list_all(self._actor(context))
        accounts = [one.account for one in shown]
        return admin_pb2.ListAccountsResponse(
            ids=[account.id for account in accounts],
            accounts=[_info(account) for account in accounts],
        )

    async def SetAccountLimits(
        self, request: admin_pb2.SetAccountLimitsRequest, context: Context
    ) -> admin_pb2.SetAccountLimitsResponse:
        """Change what an account may use."""
        given = {name: getattr(request, name) for name in _LIMITS if request.HasField(name)}
        account = await self._operations.accounts.set_limits(
            self._actor(context), request.id, **given
        )
        return admin_pb2.SetAccountLimitsResponse(account=_info(account))

    async def CreateKey(
        self, request: admin_pb2.CreateKeyRequest, context: Context
    ) -> admin_pb2.CreateKeyResponse:
        """Return a new key; it is shown here and only its digest is kept."""
        key = await self._operations.keys.create(
            self._actor(context),
            request.account_id,
            scopes=Scopes(deployments=request.deployments),
            expires_unix_ms=request.expires_unix_ms,
            limits=limits_from_wire(request.limits),
        )
        return admin_pb2.CreateKeyResponse(id=key.id, api_key=key.text)

    async def ListKeys(
        self, request: admin_pb2.ListKeysRequest, context: Context
    ) -> admin_pb2.ListKeysResponse:
        """Return the keys of one account or of all, oldest first."""
        found = await self._operations.keys.list_all(self._actor(context), request.account_id)
        return admin_pb2.ListKeysResponse(
            keys=[
                admin_pb2.KeyInfo(
                    id=record.key.id,
                    account_id=record.key.account_id,
                    deployments=record.key.deployments,
                    expires_unix_ms=record.key.expires_unix_ms,
                    created_unix_ms=record.created_unix_ms,
                    limits=limits_to_wire(record.key.limits),
                )
                for record in (one.record for one in found)
            ]
        )

    async def RevokeKey(
        self, request: admin_pb2.RevokeKeyRequest, context: Context
    ) -> admin_pb2.RevokeKeyResponse:
        """Remove a key from the table of every agent."""
        await self._operations.keys.revoke(self._actor(context), request.id)
        return admin_pb2.RevokeKeyResponse()


def _info(account: Account) -> admin_pb2.AccountInfo:
    return admin_pb2.AccountInfo(id=account.id, limits=limits_to_wire(account.limits))
