"""Members of accounts: their roles, tokens and invitations."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.core.members import (
    INVITATION_LIFE_MS,
    Invitation,
    Member,
    MemberRole,
    MemberToken,
    check_email,
    check_token_name,
    checked_role,
    may_give,
)
from coordinator.operations.acts import Act
from coordinator.operations.member_secrets import INVITATION_PREFIX, TOKEN_PREFIX
from coordinator.operations.secret_texts import new_secret
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import members
from protos.domain.errors import Forbidden, InvalidRequest, NotFound
from protos.domain.ids import check_account_id

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor

DEFAULT_TOKEN_TTL_S = 90 * 24 * 3_600
MAX_TOKEN_TTL_S = 366 * 24 * 3_600
_MEMBER_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class NewInvitation:
    """An invitation as it is shown once."""

    text: str = field(repr=False)
    invitation: Invitation


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token as it is shown once."""

    text: str = field(repr=False)
    token: MemberToken


@dataclass(frozen=True, slots=True)
class ListedMember:
    """A member, and when one of its tokens was last used; 0: never."""

    member: Member
    last_used_unix_ms: int
    tokens: int


def new_member_id() -> str:
    """Return the id of a new member."""
    return f"m-{secrets.token_hex(_MEMBER_ID_BYTES)}"


def made_token(member_id: str, name: str, ttl_s: int, now_unix_ms: int) -> NewToken:
    """Return a new token; ``ttl_s`` 0: the default. Raises: InvalidRequest."""
    if not 0 <= ttl_s <= MAX_TOKEN_TTL_S:
        raise InvalidRequest(
            f"a token's life of {ttl_s} s is not in 0..{MAX_TOKEN_TTL_S}",
            f"0 is the default of {DEFAULT_TOKEN_TTL_S} s",
        )
    secret = new_secret(TOKEN_PREFIX)
    expires_unix_ms = now_unix_ms + (ttl_s or DEFAULT_TOKEN_TTL_S) * 1_000
    token = MemberToken(
        secret.id, member_id, secret.digest, check_token_name(name), now_unix_ms, expires_unix_ms
    )
    return NewToken(secret.text, token)


class Members(UseCases):
    """Members of accounts. An account's members manage each other by their roles."""

    @use_case(Act.MEMBER_LIST, named("account"))
    async def list_all(self, actor: Actor, account_id: str = "") -> Sequence[ListedMember]:
        """Return the members of an account, the first one first. Raises: NotFound."""
        name = self._account(actor, account_id)
        found = [one for one in self._store.members().values() if one.account_id == name]
        found.sort(key=lambda one: (one.created_unix_ms, one.id))
        tokens: dict[str, list[MemberToken]] = {}
        for token in self._store.member_tokens().values():
            tokens.setdefault(token.member_id, []).append(token)
        return [
            ListedMember(
                one,
                max((token.last_used_unix_ms for token in tokens.get(one.id, ())), default=0),
                len(tokens.get(one.id, ())),
            )
            for one in found
        ]

    @use_case(Act.MEMBER_INVITE, named("account"))
    async def invite(self, actor: Actor, account_id: str, email: str, role: str) -> NewInvitation:
        """Return an invitation to an account, for one use within 24 hours.

        Raises: InvalidRequest, NotFound, Forbidden for a role that the actor may not give,
        Conflict.
        """
        name, wanted = self._account(actor, account_id), checked_role(role)
        self._check_may_give(actor, wanted)
        return await self._invite(actor, Act.MEMBER_INVITE, name, check_email(email), wanted)

    @use_case(Act.SIGN_UP_INVITE)
    async def invite_to_sign_up(self, actor: Actor, email: str = "") -> NewInvitation:
        """Return an invitation to make an account, for one use within 24 hours.

        Raises: InvalidRequest, Conflict.
        """
        checked = check_email(email) if email else ""
        return await self._invite(actor, Act.SIGN_UP_INVITE, "", checked, MemberRole.OWNER)

    @use_case(Act.INVITATION_LIST, named("account"))
    async def list_invitations(self, actor: Actor, account_id: str = "") -> Sequence[Invitation]:
        """Return the open invitations to an account; to sign up for an operator who names none."""
        name = actor.own(account_id)
        now_unix_ms = self._parts.now_unix_ms()
        return sorted(
            (
                one
                for one in self._store.invitations().values()
                if one.account_id == name and one.is_live(now_unix_ms)
            ),
            key=lambda one: (one.created_unix_ms, one.id),
        )

    @use_case(Act.INVITATION_WITHDRAW, named("invitation"))
    async def withdraw(self, actor: Actor, invitation_id: str) -> None:
        """Remove an invitation. Raises: NotFound."""
        account_id = None if actor.role is not None else actor.account_id
        subject = f"invitation/{invitation_id[:64]}"
        note = note_of(actor, Act.INVITATION_WITHDRAW, subject)
        await self._store.write(members.withdraw(invitation_id, account_id), note)

    @use_case(Act.MEMBER_SET_ROLE, named("member"))
    async def set_role(self, actor: Actor, member_id: str, role: str) -> Member:
        """Give a member another role. Raises: InvalidRequest, NotFound, Forbidden, Conflict."""
        wanted, member = checked_role(role), self._member(actor, member_id)
        self._check_may_give(actor, member.role, wanted)
        note = note_of(actor, Act.MEMBER_SET_ROLE, f"member/{member_id}", f"role={wanted}")
        return await self._store.write(members.set_role(member, wanted), note)

    @use_case(Act.MEMBER_REMOVE, named("member"))
    async def remove(self, actor: Actor, member_id: str) -> None:
        """Remove a member and its tokens. Raises: NotFound, Forbidden, Conflict."""
        member = self._member(actor, member_id)
        self._check_may_give(actor, member.role)
        detail = f"account={member.account_id} role={member.role}"
        note = note_of(actor, Act.MEMBER_REMOVE, f"member/{member_id}", detail)
        await self._store.write(members.remove(member), note)

    @use_case(Act.MEMBER_TOKEN_CREATE, named("member"))
    async def create_token(
        self, actor: Actor, member_id: str = "", *, name: str = "", ttl_s: int = 0
    ) -> NewToken:
        """Return a new token: of the member that asks, or by an operator of one that has lost all.

        Raises: InvalidRequest, NotFound, Conflict.
        """
        member = self._myself(actor, member_id)
        made = made_token(member.id, name, ttl_s, self._parts.now_unix_ms())
        detail = f"account={member.account_id} token={made.token.id}"
        note = note_of(actor, Act.MEMBER_TOKEN_CREATE, f"member/{member.id}", detail)
        await self._store.write(members.add_token(made.token), note)
        return made

    @use_case(Act.MEMBER_TOKEN_LIST, named("member"))
    async def list_tokens(self, actor: Actor, member_id: str = "") -> Sequence[MemberToken]:
        """Return the tokens of a member, oldest first. Raises: NotFound."""
        member = self._myself(actor, member_id)
        found = [one for one in self._store.member_tokens().values() if one.member_id == member.id]
        return sorted(found, key=lambda one: (one.created_unix_ms, one.id))

    @use_case(Act.MEMBER_TOKEN_REVOKE, named("token"))
    async def revoke_token(self, actor: Actor, token_id: str) -> None:
        """Revoke a token: its own for a member. Raises: NotFound."""
        token = self._store.member_tokens().get(token_id)
        if token is None or (actor.role is None and token.member_id != actor.member_id):
            raise NotFound(f"there is no token {token_id[:80]!r}", "your own tokens are listed")
        note = note_of(actor, Act.MEMBER_TOKEN_REVOKE, f"token/{token_id}")
        await self._store.write(members.revoke_token(token_id, token.member_id), note)

    async def _invite(
        self, actor: Actor, act: Act, account_id: str, email: str, role: MemberRole
    ) -> NewInvitation:
        secret, now_unix_ms = new_secret(INVITATION_PREFIX), self._parts.now_unix_ms()
        invitation = Invitation(
            id=secret.id,
            digest=secret.digest,
            account_id=account_id,
            role=role,
            email=email,
            created_unix_ms=now_unix_ms,
            created_by=str(actor),
            expires_unix_ms=now_unix_ms + INVITATION_LIFE_MS,
        )
        detail = f"account={account_id or 'new'} role={role} email={email}"
        note = note_of(actor, act, f"invitation/{secret.id}", detail)
        await self._store.write(members.invite(invitation), note)
        return NewInvitation(secret.text, invitation)

    def _account(self, actor: Actor, account_id: str) -> str:
        """Raises: NotFound."""
        name = check_account_id(actor.own(account_id))
        if name not in self._store.view().accounts:
            raise NotFound(f"there is no account {name!r}", "`edgeforge account ls` shows all")
        return name

    def _member(self, actor: Actor, member_id: str) -> Member:
        """Raises: NotFound, of what is another account's too."""
        member = self._store.members().get(member_id)
        if member is None or (actor.role is None and member.account_id != actor.account_id):
            raise NotFound(f"there is no member {member_id[:80]!r}", "list the members")
        return member

    def _myself(self, actor: Actor, member_id: str) -> Member:
        """Return the member that asks, or whom an operator names. Raises: NotFound."""
        if actor.role is None and member_id not in ("", actor.member_id):
            raise NotFound(f"there is no member {member_id[:80]!r}", "leave it out: yourself")
        return self._member(actor, member_id or actor.member_id)

    def _check_may_give(self, actor: Actor, *roles: MemberRole) -> None:
        """Raises: Forbidden."""
        if actor.member_role is not None and not may_give(actor.member_role, *roles):
            raise Forbidden(
                f"your role is {actor.member_role}, which may not give or take"
                f" {' and '.join(dict.fromkeys(roles))}",
                "ask an owner of the account",
            )
