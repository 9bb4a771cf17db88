"""Routes about members of the account, invitations, and the caller's own tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from coordinator.api.customer.pages import page_of
from coordinator.api.customer.route import Call, Model, PageQuery, Param, Route
from coordinator.operations.acts import Act
from coordinator.operations.members import MAX_TOKEN_TTL_S

if TYPE_CHECKING:
    from coordinator.core.members import Invitation, Member, MemberToken

RoleName = Literal["owner", "admin", "developer", "billing", "viewer"]

MEMBER_ID = Param(r"[a-z0-9-]{1,64}", "A member's id.", "m-0011223344556677")
TOKEN_ID = Param(r"[a-z0-9-]{1,64}", "A token's id.", "0011223344556677")
INVITATION_ID = Param(r"[a-z0-9-]{1,64}", "An invitation's id.", "0011223344556677")


class InviteBody(Model):
    """Who is invited."""

    email: str = Field(min_length=3, max_length=254, examples=["bo@example.org"])
    role: RoleName


class RoleBody(Model):
    """A member's new role."""

    role: RoleName


class TokenBody(Model):
    """A new token of the member that asks."""

    name: str = Field("", max_length=80, examples=["laptop"])
    ttl_s: int = Field(0, ge=0, le=MAX_TOKEN_TTL_S, description="How long it works; 0: 90 days.")


class MemberAnswer(Model):
    """A member of the account."""

    id: str
    email: str
    role: str
    created_unix_ms: int
    last_used_unix_ms: int = Field(description="To the hour; 0: never.")


class MemberPage(Model):
    """Members, the first one first."""

    items: list[MemberAnswer]
    next: str


class InvitationAnswer(Model):
    """An invitation that was not used."""

    id: str
    email: str
    role: str
    created_unix_ms: int
    expires_unix_ms: int


class NewInvitationAnswer(InvitationAnswer):
    """An invitation; its text is shown here only."""

    invitation: str = Field(repr=False, description="efi-...: hand it to whom it is for.")


class InvitationPage(Model):
    """Open invitations, oldest first."""

    items: list[InvitationAnswer]
    next: str


class TokenAnswer(Model):
    """A token of the member that asks."""

    id: str
    name: str
    prefix: str
    created_unix_ms: int
    expires_unix_ms: int
    last_used_unix_ms: int = Field(description="To the hour; 0: never.")


class NewTokenAnswer(TokenAnswer):
    """A token; its text is shown here only."""

    token: str = Field(repr=False)


class TokenPage(Model):
    """Tokens, oldest first."""

    items: list[TokenAnswer]
    next: str


def _member(member: Member, last_used_unix_ms: int = 0) -> MemberAnswer:
    return MemberAnswer(
        id=member.id,
        email=member.email,
        role=member.role.value,
        created_unix_ms=member.created_unix_ms,
        last_used_unix_ms=last_used_unix_ms,
    )


def _invitation(one: Invitation) -> dict[str, str | int]:
    return {
        "id": one.id,
        "email": one.email,
        "role": one.role.value,
        "created_unix_ms": one.created_unix_ms,
        "expires_unix_ms": one.expires_unix_ms,
    }


def _token(token: MemberToken) -> dict[str, str | int]:
    return {
        "id": token.id,
        "name": token.name,
        "prefix": f"efm-{token.id}",
        "created_unix_ms": token.created_unix_ms,
        "expires_unix_ms": token.expires_unix_ms,
        "last_used_unix_ms": token.last_used_unix_ms,
    }


async def _members(call: Call) -> MemberPage:
    asked = call.asked(PageQuery)
    found = await call.operations.members.list_all(call.actor)
    page, following = page_of(
        found,
        lambda one: f"{one.member.created_unix_ms:015}/{one.member.id}",
        asked.limit,
        asked.cursor,
    )
    return MemberPage(
        items=[_member(one.member, one.last_used_unix_ms) for one in page], next=following
    )


async def _invite(call: Call) -> NewInvitationAnswer:
    body = call.given(InviteBody)
    made = await call.operations.members.invite(call.actor, "", body.email, body.role)
    return NewInvitationAnswer.model_validate(
        {**_invitation(made.invitation), "invitation": made.text}
    )


async def _invitations(call: Call) -> InvitationPage:
    asked = call.asked(PageQuery)
    found = await call.operations.members.list_invitations(call.actor)
    page, following = page_of(
        found, lambda one: f"{one.created_unix_ms:015}/{one.id}", asked.limit, asked.cursor
    )
    items = [InvitationAnswer.model_validate(_invitation(one)) for one in page]
    return InvitationPage(items=items, next=following)


async def _withdraw(call: Call) -> None:
    await call.operations.members.withdraw(call.actor, call.params["invitation_id"])


async def _set_role(call: Call) -> MemberAnswer:
    member_id, role = call.params["member_id"], call.given(RoleBody).role
    return _member(await call.operations.members.set_role(call.actor, member_id, role))


async def _remove(call: Call) -> None:
    await call.operations.members.remove(call.actor, call.params["member_id"])


async def _new_token(call: Call) -> NewTokenAnswer:
    body = call.given(TokenBody)
    made = await call.operations.members.create_token(call.actor, name=body.name, ttl_s=body.ttl_s)
    return NewTokenAnswer.model_validate({**_token(made.token), "token": made.text})


async def _tokens(call: Call) -> TokenPage:
    asked = call.asked(PageQuery)
    found = await call.operations.members.list_tokens(call.actor)
    page, following = page_of(
        found, lambda one: f"{one.created_unix_ms:015}/{one.id}", asked.limit, asked.cursor
    )
    return TokenPage(
        items=[TokenAnswer.model_validate(_token(one)) for one in page], next=following
    )


async def _revoke_token(call: Call) -> None:
    await call.operations.members.revoke_token(call.actor, call.params["token_id"])


ROUTES = (
    Route(
        "GET",
        "/v1/members",
        "list_members",
        "List the members of the account.",
        _members,
        Act.MEMBER_LIST,
        MemberPage,
        query=PageQuery,
    ),
    Route(
        "PATCH",
        "/v1/members/{member_id}",
        "set_member_role",
        "Give a member another role.",
        _set_role,
        Act.MEMBER_SET_ROLE,
        MemberAnswer,
        body=RoleBody,
        params={"member_id": MEMBER_ID},
    ),
    Route(
        "DELETE",
        "/v1/members/{member_id}",
        "remove_member",
        "Remove a member and its tokens.",
        _remove,
        Act.MEMBER_REMOVE,
        status=204,
        params={"member_id": MEMBER_ID},
    ),
    Route(
        "POST",
        "/v1/invitations",
        "invite_member",
        "Invite somebody to the account, for one use within 24 hours.",
        _invite,
        Act.MEMBER_INVITE,
        NewInvitationAnswer,
        201,
        InviteBody,
    ),
    Route(
        "GET",
        "/v1/invitations",
        "list_invitations",
        "List the open invitations to the account.",
        _invitations,
        Act.INVITATION_LIST,
        InvitationPage,
        query=PageQuery,
    ),
    Route(
        "DELETE",
        "/v1/invitations/{invitation_id}",
        "withdraw_invitation",
        "Withdraw an invitation.",
        _withdraw,
        Act.INVITATION_WITHDRAW,
        status=204,
        params={"invitation_id": INVITATION_ID},
    ),
    Route(
        "POST",
        "/v1/tokens",
        "create_token",
        "Make another token of your own.",
        _new_token,
        Act.MEMBER_TOKEN_CREATE,
        NewTokenAnswer,
        201,
        TokenBody,
    ),
    Route(
        "GET",
        "/v1/tokens",
        "list_tokens",
        "List your own tokens.",
        _tokens,
        Act.MEMBER_TOKEN_LIST,
        TokenPage,
        query=PageQuery,
    ),
    Route(
        "DELETE",
        "/v1/tokens/{token_id}",
        "revoke_token",
        "Revoke one of your own tokens.",
        _revoke_token,
        Act.MEMBER_TOKEN_REVOKE,
        status=204,
        params={"token_id": TOKEN_ID},
    ),
)
