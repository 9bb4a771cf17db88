"""Accounts and their keys."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from coordinator.rpc.admin_parts import AdminServicerBase, note_of
from protos.domain.errors import InvalidRequest
from protos.domain.ids import check_account_id, check_deployment_name
from protos.domain.resources import ApiKey
from protos.v1 import admin_pb2

if TYPE_CHECKING:
    from coordinator.rpc.identity import Context

MAX_KEYS_PER_ACCOUNT = 1_000
MAX_DEPLOYMENTS_PER_KEY = 100
_ID_BYTES = 6
_SECRET_BYTES = 24
_SALT_BYTES = 16
_MAX_ID_CHARS = 64


class CustomerAdminServicer(AdminServicerBase):
    """Accounts and keys."""

    async def CreateAccount(
        self, request: admin_pb2.CreateAccountRequest, context: Context
    ) -> admin_pb2.CreateAccountResponse:
        """Create an account with a prefix cache of its own."""
        account_id = check_account_id(request.id)
        await self._store.create_account(
            account_id,
            secrets.token_hex(_SALT_BYTES),
            note=note_of(context, "account.create", f"account/{account_id}"),
        )
        return admin_pb2.CreateAccountResponse(id=account_id)

    async def ListAccounts(
        self, request: admin_pb2.ListAccountsRequest, context: Context
    ) -> admin_pb2.ListAccountsResponse:
        """Return the name of every account."""
        return admin_pb2.ListAccountsResponse(ids=sorted(self._store.view().accounts))

    async def CreateKey(
        self, request: admin_pb2.CreateKeyRequest, context: Context
    ) -> admin_pb2.CreateKeyResponse:
        """Return a new key; it is shown here and only its digest is kept."""
        account_id = check_account_id(request.account_id)
        deployments = tuple(sorted({check_deployment_name(one) for one in request.deployments}))
        if len(deployments) > MAX_DEPLOYMENTS_PER_KEY:
            raise InvalidRequest(
                f"{len(deployments)} deployments are more than {MAX_DEPLOYMENTS_PER_KEY}",
                "leave deployments out: the key opens all of the account",
            )
        now_unix_ms = self._parts.now_unix_ms()
        if request.expires_unix_ms and request.expires_unix_ms <= now_unix_ms:
            raise InvalidRequest("the key would have expired already", "0 never expires")
        keys = [key for key in self._store.view().keys.values() if key.account_id == account_id]
        if len(keys) >= MAX_KEYS_PER_ACCOUNT:
            raise InvalidRequest(
                f"account {account_id!r} has {len(keys)} keys", "revoke those not in use"
            )
        key_id = secrets.token_hex(_ID_BYTES)
        api_key = f"ef-{key_id}-{secrets.token_hex(_SECRET_BYTES)}"
        key = ApiKey(
            id=key_id,
            digest=hashlib.sha256(api_key.encode()).digest(),
            account_id=account_id,
            deployments=deployments,
            expires_unix_ms=request.expires_unix_ms,
        )
        detail = f"account={account_id} deployments={','.join(deployments) or 'all'}"
        await self._store.put_key(
            key, now_unix_ms, note=note_of(context, "key.create", f"key/{key_id}", detail)
        )
        return admin_pb2.CreateKeyResponse(id=key_id, api_key=api_key)

    async def ListKeys(
        self, request: admin_pb2.ListKeysRequest, context: Context
    ) -> admin_pb2.ListKeysResponse:
        """Return the keys of one account or of all, oldest first."""
        return admin_pb2.ListKeysResponse(
            keys=[
                admin_pb2.KeyInfo(
                    id=record.key.id,
                    account_id=record.key.account_id,
                    deployments=record.key.deployments,
                    expires_unix_ms=record.key.expires_unix_ms,
                    created_unix_ms=record.created_unix_ms,
                )
                for record in self._store.keys_info()
                if request.account_id in ("", record.key.account_id)
            ]
        )

    async def RevokeKey(
        self, request: admin_pb2.RevokeKeyRequest, context: Context
    ) -> admin_pb2.RevokeKeyResponse:
        """Remove a key from the table of every agent."""
        if not 0 < len(request.id) <= _MAX_ID_CHARS:
            raise InvalidRequest("name the key by its id", "`edgeforge key ls` shows the ids")
        await self._store.revoke_key(
            request.id, note=note_of(context, "key.revoke", f"key/{request.id}")
        )
        return admin_pb2.RevokeKeyResponse()
