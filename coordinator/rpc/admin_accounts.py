"""Accounts with their states, members and keys, for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.operations.keys import DEFAULT_GRACE_S, Scopes
from coordinator.rpc.admin_base import AdminServicerBase, RoleOf
from protos.v1 import accounts_pb2, accounts_pb2_grpc
from protos.wire import limits_from_wire, limits_to_wire

if TYPE_CHECKING:
    from coordinator.core.members import Invitation
    from coordinator.operations.accounts import AccountShown
    from coordinator.operations.keys import ListedKey
    from coordinator.operations.operations import Operations
    from coordinator.rpc.identity import Context


class AccountsService(AdminServicerBase, accounts_pb2_grpc.AccountsServicer):
    """Every call of ``accounts.proto``: a request, a use case, a message."""

    def __init__(self, operations: Operations, role_of: RoleOf, api_endpoint: str) -> None:
        super().__init__(operations, role_of)
        self._api_endpoint = api_endpoint

    async def ListAccountStates(
        self, request: accounts_pb2.ListAccountStatesRequest, context: Context
    ) -> accounts_pb2.ListAccountStatesResponse:
        """Return every account with its state."""
        actor, accounts = self._actor(context), self._operations.accounts
        return accounts_pb2.ListAccountStatesResponse(
            accounts=map(_summary, await accounts.list_all(actor))
        )

    async def ShowAccount(
        self, request: accounts_pb2.ShowAccountRequest, context: Context
    ) -> accounts_pb2.AccountDetail:
        """Return one account with its members and open invitations."""
        actor, operations = self._actor(context), self._operations
        shown = await operations.accounts.show(actor, request.id)
        members = await operations.members.list_all(actor, request.id)
        invitations = await operations.members.list_invitations(actor, request.id)
        return accounts_pb2.AccountDetail(
            account=_summary(shown),
            members=[
                accounts_pb2.AccountMember(
                    id=one.member.id,
                    email=one.member.email,
                    role=one.member.role,
                    created_unix_ms=one.member.created_unix_ms,
                    last_used_unix_ms=one.last_used_unix_ms,
                    tokens=one.tokens,
                )
                for one in members
            ],
            invitations=map(_invitation, invitations),
        )

    async def SuspendAccount(
        self, request: accounts_pb2.SetAccountStateRequest, context: Context
    ) -> accounts_pb2.AccountSummary:
        """Refuse new requests of an account."""
        actor, accounts = self._actor(context), self._operations.accounts
        await accounts.suspend(actor, request.id, request.reason)
        return _summary(await accounts.show(actor, request.id))

    async def ResumeAccount(
        self, request: accounts_pb2.SetAccountStateRequest, context: Context
    ) -> accounts_pb2.AccountSummary:
        """Admit requests of an account again."""
        actor, accounts = self._actor(context), self._operations.accounts
        await accounts.resume(actor, request.id, request.reason)
        return _summary(await accounts.show(actor, request.id))

    async def InviteToAccount(
        self, request: accounts_pb2.InviteToAccountRequest, context: Context
    ) -> accounts_pb2.NewAccountInvitation:
        """Return an invitation to an account, or to sign up."""
        actor, members = self._actor(context), self._operations.members
        if request.account_id:
            made = await members.invite(actor, request.account_id, request.email, request.role)
        else:
            made = await members.invite_to_sign_up(actor, request.email)
        return accounts_pb2.NewAccountInvitation(
            invitation=_invitation(made.invitation), text=made.text, api=self._api_endpoint
        )

    async def WithdrawInvitation(
        self, request: accounts_pb2.WithdrawInvitationRequest, context: Context
    ) -> accounts_pb2.WithdrawInvitationResponse:
        """Remove an invitation."""
        await self._operations.members.withdraw(self._actor(context), request.id)
        return accounts_pb2.WithdrawInvitationResponse()

    async def RemoveMember(
        self, request: accounts_pb2.RemoveMemberRequest, context: Context
    ) -> accounts_pb2.RemoveMemberResponse:
        """Remove a member and its tokens."""
        await self._operations.members.remove(self._actor(context), request.id)
        return accounts_pb2.RemoveMemberResponse()

    async def CreateMemberToken(
        self, request: accounts_pb2.CreateMemberTokenRequest, context: Context
    ) -> accounts_pb2.NewMemberToken:
        """Return a token of a member."""
        made = await self._operations.members.create_token(
            self._actor(context), request.member_id, name=request.name, ttl_s=request.ttl_s
        )
        return accounts_pb2.NewMemberToken(
            id=made.token.id, token=made.text, expires_unix_ms=made.token.expires_unix_ms
        )

    async def CreateScopedKey(
        self, request: accounts_pb2.CreateScopedKeyRequest, context: Context
    ) -> accounts_pb2.NewScopedKey:
        """Return a new key; it is shown here and only its digest is kept."""
        made = await self._operations.keys.create(
            self._actor(context),
            request.account_id,
            scopes=Scopes(request.deployments, request.endpoints, request.origins, request.zones),
            expires_unix_ms=request.expires_unix_ms,
            limits=limits_from_wire(request.limits),
        )
        return accounts_pb2.NewScopedKey(id=made.id, api_key=made.text)

    async def ListScopedKeys(
        self, request: accounts_pb2.ListScopedKeysRequest, context: Context
    ) -> accounts_pb2.ListScopedKeysResponse:
        """Return the keys of one account or of all, oldest first."""
        found = await self._operations.keys.list_all(self._actor(context), request.account_id)
        return accounts_pb2.ListScopedKeysResponse(keys=map(_key, found))

    async def RotateKey(
        self, request: accounts_pb2.RotateKeyRequest, context: Context
    ) -> accounts_pb2.RotatedKey:
        """Return a key with the scopes of another one, which ends by itself."""
        grace_s = request.grace_s if request.HasField("grace_s") else DEFAULT_GRACE_S
        made = await self._operations.keys.rotate(self._actor(context), request.id, grace_s=grace_s)
        return accounts_pb2.RotatedKey(
            id=made.new.id,
            api_key=made.new.text,
            old_id=made.old_id,
            old_ends_unix_ms=made.old_ends_unix_ms,
        )


def _summary(shown: AccountShown) -> accounts_pb2.AccountSummary:
    account, info = shown.account, shown.info
    return accounts_pb2.AccountSummary(
        id=account.id,
        state=account.state,
        reason=info.reason,
        state_since_unix_ms=info.state_since_unix_ms,
        state_by=info.state_by,
        limits=limits_to_wire(account.limits),
        zones=account.zones,
        funded=account.funded,
        created_unix_ms=info.created_unix_ms,
        created_by=info.created_by,
        email=info.email,
        members=shown.members,
        keys=shown.keys,
        deployments=shown.deployments,
    )


def _invitation(one: Invitation) -> accounts_pb2.AccountInvitation:
    return accounts_pb2.AccountInvitation(
        id=one.id,
        email=one.email,
        role=one.role,
        expires_unix_ms=one.expires_unix_ms,
        created_by=one.created_by,
    )


def _key(listed: ListedKey) -> accounts_pb2.ScopedKey:
    record, key = listed.record, listed.record.key
    return accounts_pb2.ScopedKey(
        id=key.id,
        prefix=record.prefix,
        account_id=key.account_id,
        deployments=key.deployments,
        endpoints=key.endpoints,
        origins=key.origins,
        zones=key.zones,
        limits=limits_to_wire(key.limits),
        created_unix_ms=record.created_unix_ms,
        created_by=record.created_by,
        expires_unix_ms=key.expires_unix_ms,
        last_used_unix_ms=listed.last_used_unix_ms,
        replaces=record.replaces,
        replaced_by=record.replaced_by,
    )
