"""Accounts that customers make themselves, and invitations that are taken up.

Callers are strangers: each source and all together are limited, and refusals do not say which
invitations exist.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.core.members import (
    Member,
    MemberRole,
    SignUp,
    check_email,
    check_new_account,
)
from coordinator.core.rate_limit import RateLimit
from coordinator.operations.members import made_token, new_member_id
from coordinator.store import members
from coordinator.store.accounts import name_taken
from coordinator.store.members import InvitationGone
from coordinator.store.records import AuditNote
from protos.domain.connection_shares import source_group
from protos.domain.customers import Account
from protos.domain.errors import Forbidden, RateLimited

if TYPE_CHECKING:
    from coordinator.core.members import Invitation
    from coordinator.operations.member_secrets import MemberLogins
    from coordinator.operations.refusals import RefusalRecorder
    from coordinator.store.store import Store

#: Tries of one source at once, and on average: six an hour.
_TRIES_AT_ONCE, _TRIES_PER_S = 10.0, 1 / 600
#: Accounts that everybody together may make by open registration.
_OPEN_AT_ONCE, _OPEN_PER_S = 60.0, 1 / 60
#: Tokens of a new member.
_FIRST_TOKEN_NAME = "first"


@dataclass(frozen=True, slots=True)
class Joined:
    """A new member with its first token, which is shown once."""

    account_id: str
    member: Member
    token_text: str = field(repr=False)
    token_expires_unix_ms: int


class SignUps:
    """Makes members of strangers. ``mode``: who may make an account."""

    def __init__(
        self,
        store: Store,
        logins: MemberLogins,
        refusals: RefusalRecorder,
        mode: SignUp,
        now_mono_ms: Callable[[], float],
        now_unix_ms: Callable[[], int],
        prepay: Callable[[str], Awaitable[None]],
        has_upstream_token: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """``prepay`` has an account spend only what it has paid, also before it exists.

        ``has_upstream_token``: whether operators keep a token of another hub for this owner, which
        imports of an account of that name would use.
        """
        self._has_upstream_token = has_upstream_token
        self.mode = mode
        self._prepay = prepay
        self._store = store
        self._logins = logins
        self._refusals = refusals
        self._now_mono_ms = now_mono_ms
        self._now_unix_ms = now_unix_ms
        self._tries = RateLimit(per_s=_TRIES_PER_S, burst=_TRIES_AT_ONCE)
        self._open = RateLimit(per_s=_OPEN_PER_S, burst=_OPEN_AT_ONCE, max_keys=1)

    async def sign_up(
        self, address: str, account_id: str, email: str, invitation_text: str = ""
    ) -> Joined:
        """Make an account and its owner, at open registration or by an invitation.

        An account of open registration is funded: it spends only what it has paid. Raises:
        Forbidden, InvalidRequest, InvitationGone, Conflict for a name that is taken, RateLimited.
        """
        if self.mode is SignUp.CLOSED:
            raise Forbidden(
                "accounts are made by the operators of this fleet",
                "ask them for one",
                code="sign_up_closed",
            )
        self._take(self._tries, source_group(address))
        invitation = None
        if invitation_text or self.mode is SignUp.INVITE:
            invitation = await self._invitation(address, invitation_text, email)
            if invitation.account_id:
                raise await self._refuse(address, "an invitation to an account, not to sign up")
        name, checked = check_new_account(account_id), check_email(email)
        if self._has_upstream_token(name) or self._is_owner(name):
            raise name_taken(name)
        if invitation is None:
            self._take(self._open, "")
            if name in self._store.view().accounts:
                raise name_taken(name)
            # Before the account: a crash between the two must leave none that spends freely.
            await self._prepay(name)
        account = Account(name, funded=invitation is None)
        return await self._joined(address, account, checked, MemberRole.OWNER, invitation)

    def _is_owner(self, name: str) -> bool:
        """Whether something was published under a name; the transaction looks again."""
        view, prefix = self._store.view(), f"{name}/"
        known = (view.models, view.adapters, self._store.publications())
        return any(one.startswith(prefix) for names in known for one in names)

    async def join(self, address: str, invitation_text: str, email: str) -> Joined:
        """Make a member of an account by an invitation to it.

        Raises: InvalidRequest, InvitationGone, Conflict, RateLimited.
        """
        self._take(self._tries, source_group(address))
        invitation = await self._invitation(address, invitation_text, email)
        account = self._store.view().accounts.get(invitation.account_id)
        if account is None:
            raise await self._refuse(address, "an invitation to sign up, or to a removed account")
        return await self._joined(address, account, check_email(email), invitation.role, invitation)

    async def _joined(
        self,
        address: str,
        account: Account,
        email: str,
        role: MemberRole,
        invitation: Invitation | None,
    ) -> Joined:
        now_unix_ms = self._now_unix_ms()
        invited_by = invitation.created_by if invitation else ""
        member = Member(new_member_id(), account.id, email, role, now_unix_ms, invited_by)
        made = made_token(member.id, _FIRST_TOKEN_NAME, 0, now_unix_ms)
        is_new = invitation is None or not invitation.account_id
        if is_new:
            change = members.sign_up(account, member, made.token, invitation)
        else:
            assert invitation is not None
            change = members.join(member, made.token, invitation)
        action = "account.signed_up" if is_new else "member.joined"
        detail = f"account={account.id} role={role} from {address}"
        note = AuditNote(f"member/{member.id}", action, f"account/{account.id}", detail)
        await self._store.write(change, note)
        return Joined(account.id, member, made.text, made.token.expires_unix_ms)

    async def _invitation(self, address: str, text: str, email: str) -> Invitation:
        """Return the invitation of a text, for this address of email. Raises: InvitationGone."""
        found = self._logins.invitation_of(text)
        if found is None:
            raise await self._refuse(address, "no invitation that is known and live")
        if found.email and found.email.lower() != email.strip().lower():
            raise await self._refuse(address, "an invitation of another address of email")
        return found

    async def _refuse(self, address: str, cause: str) -> InvitationGone:
        note = AuditNote(f"anonymous@{address}", "invitation.refused", "invitation", cause)
        await self._refusals.record(note)
        return InvitationGone()

    def _take(self, limit: RateLimit, key: str) -> None:
        """Raises: RateLimited."""
        wait_s = limit.take(key, self._now_mono_ms())
        if wait_s:
            raise RateLimited("too many sign-ups from here", "try later", retry_after_s=wait_s)
