"""Members of accounts, their tokens, and invitations that make members."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.core.members import (
    MAX_INVITATIONS,
    MAX_MEMBERS,
    MAX_SIGN_UP_INVITATIONS,
    MAX_TOKENS,
    Invitation,
    Member,
    MemberRole,
    MemberToken,
    is_use_noted,
    leaves_no_owner,
    may_give,
)
from coordinator.store import accounts, publications
from coordinator.store.fact_types import FactType
from coordinator.store.member_facts import InvitationRow, MemberRow, MemberTokenRow
from protos.domain.errors import Conflict, NotFound

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction, Write
    from protos.domain.customers import Account


class InvitationGone(NotFound):
    """The invitation was used, removed or has expired."""

    def __init__(self) -> None:
        super().__init__(
            "this invitation is not valid", "ask for another one", code="invitation_invalid"
        )


def sign_up(
    account: Account, member: Member, token: MemberToken, invitation: Invitation | None
) -> Write[None]:
    """Create an account with its owner and a token; uses up the invitation if there is one.

    Raises: Conflict if the name is taken, also by what others have published under it, whose next
    version would be the account's; InvitationGone.
    """

    def write(tx: Transaction) -> None:
        if invitation is not None:
            _use_up(tx, invitation)
        if publications.is_owner(tx, account.id):
            raise accounts.name_taken(account.id)
        created_by = f"member/{member.id}"
        accounts.create(account, created_by=created_by, email=member.email)(tx)
        tx.put_fact(MemberRow(member))
        tx.put_fact(MemberTokenRow(token))

    return write


def invite(invitation: Invitation) -> Write[None]:
    """Keep an invitation; those that have expired are forgotten. NotFound, Conflict."""

    def write(tx: Transaction) -> None:
        if invitation.account_id:
            accounts.require(tx, invitation.account_id)
        open_ones = 0
        for one in (row.invitation for row in tx.facts(InvitationRow)):
            if not one.is_live(tx.now_unix_ms):
                tx.remove_fact(FactType.INVITATION, one.id)
            elif one.account_id == invitation.account_id:
                open_ones += 1
        most = MAX_INVITATIONS if invitation.account_id else MAX_SIGN_UP_INVITATIONS
        if open_ones >= most:
            raise Conflict(
                f"{open_ones} invitations wait to be used",
                "withdraw some, or wait until they expire",
                retryable=False,
            )
        tx.put_fact(InvitationRow(invitation))

    return write


def withdraw(invitation_id: str, account_id: str | None) -> Write[None]:
    """Remove an invitation; ``account_id`` None: of whichever account. NotFound."""

    def write(tx: Transaction) -> None:
        row = tx.fact(InvitationRow, invitation_id)
        if row is None or account_id not in (None, row.invitation.account_id):
            raise NotFound(f"there is no invitation {invitation_id!r}", "it may have been used")
        tx.remove_fact(FactType.INVITATION, invitation_id)

    return write


def join(member: Member, token: MemberToken, invitation: Invitation) -> Write[None]:
    """Use up an invitation to an account. Raises: InvitationGone, NotFound, Conflict."""

    def write(tx: Transaction) -> None:
        _use_up(tx, invitation)
        accounts.require(tx, member.account_id)
        others = _of_account(tx, member.account_id)
        if len(others) >= MAX_MEMBERS:
            raise Conflict(
                f"account {member.account_id!r} has {len(others)} members",
                "remove some of them",
                retryable=False,
            )
        if any(one.email.lower() == member.email.lower() for one in others):
            raise Conflict(
                f"{member.email} is a member already", "log in with its token", retryable=False
            )
        tx.put_fact(MemberRow(member))
        tx.put_fact(MemberTokenRow(token))

    return write


def set_role(was: Member, role: MemberRole) -> Write[Member]:
    """Give a member another role, and withdraw invitations of its that this one may not give.

    NotFound; Conflict if no owner would stay, or if its role is no longer as it was looked at.
    """

    def write(tx: Transaction) -> Member:
        member = _unchanged(tx, was)
        if role is not MemberRole.OWNER:
            _check_an_owner_stays(tx, member)
        changed = replace(member, role=role)
        tx.put_fact(MemberRow(changed))
        for one in _invitations_by(tx, member):
            if not may_give(role, one.role):
                tx.remove_fact(FactType.INVITATION, one.id)
        return changed

    return write


def remove(was: Member) -> Write[Member]:
    """Remove a member, its tokens, and its invitations, by which it could come back.

    NotFound; Conflict if no owner would stay, or if its role is no longer as it was looked at.
    """

    def write(tx: Transaction) -> Member:
        member = _unchanged(tx, was)
        _check_an_owner_stays(tx, member)
        tx.remove_fact(FactType.MEMBER, member.id)
        for token in _tokens_of(tx, member.id):
            tx.remove_fact(FactType.MEMBER_TOKEN, token.id)
        for one in _invitations_by(tx, member):
            tx.remove_fact(FactType.INVITATION, one.id)
        return member

    return write


def add_token(token: MemberToken) -> Write[None]:
    """Keep another token of a member; those that have expired are forgotten. NotFound, Conflict."""

    def write(tx: Transaction) -> None:
        if tx.fact(MemberRow, token.member_id) is None:
            raise NotFound("there is no such member", "it may have been removed meanwhile")
        live = 0
        for one in _tokens_of(tx, token.member_id):
            if one.is_live(tx.now_unix_ms):
                live += 1
            else:
                tx.remove_fact(FactType.MEMBER_TOKEN, one.id)
        if live >= MAX_TOKENS:
            raise Conflict(
                f"the member has {live} tokens", "revoke those not in use", retryable=False
            )
        tx.put_fact(MemberTokenRow(token))

    return write


def revoke_token(token_id: str, member_id: str) -> Write[None]:
    """Revoke a token of a member. NotFound."""

    def write(tx: Transaction) -> None:
        row = tx.fact(MemberTokenRow, token_id)
        if row is None or row.token.member_id != member_id:
            raise NotFound(f"there is no token {token_id!r}", "GET /v1/tokens lists your own")
        tx.remove_fact(FactType.MEMBER_TOKEN, token_id)

    return write


def note_use(token_id: str) -> Write[None]:
    """Note that a token was used, unless that was noted not long ago or it is gone."""

    def write(tx: Transaction) -> None:
        row = tx.fact(MemberTokenRow, token_id)
        if row is not None and not is_use_noted(row.token, tx.now_unix_ms):
            tx.put_fact(MemberTokenRow(replace(row.token, last_used_unix_ms=tx.now_unix_ms)))

    return write


def found(tx: Transaction, member_id: str, account_id: str) -> Member:
    """Return a member of an account. Raises: NotFound."""
    row = tx.fact(MemberRow, member_id)
    if row is None or row.member.account_id != account_id:
        raise NotFound(f"there is no member {member_id!r}", "GET /v1/members lists them")
    return row.member


def _unchanged(tx: Transaction, was: Member) -> Member:
    """Return a member whose role is the one that was looked at. Raises: NotFound, Conflict."""
    member = found(tx, was.id, was.account_id)
    if member.role is not was.role:
        raise Conflict(f"member {was.id!r} is {member.role} meanwhile", "look at it again")
    return member


def _invitations_by(tx: Transaction, member: Member) -> list[Invitation]:
    by = f"member/{member.id}"
    return [one for row in tx.facts(InvitationRow) if (one := row.invitation).created_by == by]


def _use_up(tx: Transaction, invitation: Invitation) -> None:
    """Raises: InvitationGone unless it is as it was when its text was proved, and live."""
    row = tx.fact(InvitationRow, invitation.id)
    if row is None or row.invitation != invitation or not invitation.is_live(tx.now_unix_ms):
        raise InvitationGone
    tx.remove_fact(FactType.INVITATION, invitation.id)


def _check_an_owner_stays(tx: Transaction, member: Member) -> None:
    if member.role is MemberRole.OWNER and leaves_no_owner(
        _of_account(tx, member.account_id), member.id
    ):
        raise Conflict(
            "the member is the last owner of its account",
            "make another member owner first",
            retryable=False,
        )


def _of_account(tx: Transaction, account_id: str) -> list[Member]:
    everybody = (row.member for row in tx.facts(MemberRow))
    return [one for one in everybody if one.account_id == account_id]


def _tokens_of(tx: Transaction, member_id: str) -> list[MemberToken]:
    return [row.token for row in tx.facts(MemberTokenRow) if row.token.member_id == member_id]
