"""Members of an account: people with a role, tokens of theirs, and invitations."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from protos.domain.errors import InvalidRequest

#: Members of one account.
MAX_MEMBERS = 200
#: Tokens of one member.
MAX_TOKENS = 20
#: Open invitations to one account; and open invitations to sign up, of all operators.
MAX_INVITATIONS = 100
MAX_SIGN_UP_INVITATIONS = 1_000
INVITATION_LIFE_MS = 24 * 3_600_000
#: A use of a token is noted when the last one that was noted is this old.
NOTED_EVERY_MS = 3_600_000

MAX_EMAIL_CHARS = 254
MAX_NAME_CHARS = 80
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")

_RESERVED = (
    "abuse account accounts admin administrator api app auth billing blog console coordinator"
    " dashboard demo docs enrolment fleet help hub info internal invoice invoices login mail me"
    " models null operator operators organizations payments postmaster pricing public root"
    " security settings signup sign-up status support system test undefined user users v1 www"
)
#: Names that no customer may take: they would be read as the fleet's own.
RESERVED_ACCOUNTS = frozenset(_RESERVED.split())
_NEW_ACCOUNT = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MIN_ACCOUNT_CHARS = 3
MAX_ACCOUNT_CHARS = 40


class MemberRole(enum.StrEnum):
    """What a member may do in its account; ``operations.acts.OF_MEMBERS`` is the table."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    BILLING = "billing"
    VIEWER = "viewer"


#: The roles that each role may give and take.
GRANTS: dict[MemberRole, frozenset[MemberRole]] = {
    MemberRole.OWNER: frozenset(MemberRole),
    MemberRole.ADMIN: frozenset(
        {MemberRole.ADMIN, MemberRole.DEVELOPER, MemberRole.BILLING, MemberRole.VIEWER}
    ),
    MemberRole.DEVELOPER: frozenset(),
    MemberRole.BILLING: frozenset(),
    MemberRole.VIEWER: frozenset(),
}


class SignUp(enum.StrEnum):
    """Who may make an account over the API."""

    CLOSED = "closed"
    INVITE = "invite"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """What the coordinator alone knows of an account."""

    account_id: str
    created_unix_ms: int = 0
    #: ``operator/ana``, or the member who signed up.
    created_by: str = ""
    email: str = ""
    #: Why it is in its state, since when, and who has put it there.
    reason: str = ""
    state_since_unix_ms: int = 0
    state_by: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A person in one account."""

    id: str
    account_id: str
    email: str
    role: MemberRole
    created_unix_ms: int
    invited_by: str = ""


@dataclass(frozen=True, slots=True)
class MemberToken:
    """A member's token; of the secret only the SHA-256 ``digest`` of the whole text is stored."""

    id: str
    member_id: str
    digest: bytes = field(repr=False)
    name: str
    created_unix_ms: int
    expires_unix_ms: int
    #: 0: never. At most ``NOTED_EVERY_MS`` behind.
    last_used_unix_ms: int = 0

    def is_live(self, now_unix_ms: int) -> bool:
        """Return whether it has not expired; 0 never does."""
        return not 0 < self.expires_unix_ms <= now_unix_ms


@dataclass(frozen=True, slots=True)
class Invitation:
    """Makes one member of whoever has its text, once. Without an account: of a new account."""

    id: str
    digest: bytes = field(repr=False)
    account_id: str
    role: MemberRole
    #: Empty: of whoever has the text.
    email: str
    created_unix_ms: int
    created_by: str
    expires_unix_ms: int

    def is_live(self, now_unix_ms: int) -> bool:
        """Return whether it has not expired."""
        return now_unix_ms < self.expires_unix_ms


def check_email(text: str) -> str:
    """Return an address as it is kept: its domain in lower case. Raises: InvalidRequest."""
    email = text.strip()
    if len(email) > MAX_EMAIL_CHARS or _EMAIL.fullmatch(email) is None:
        raise InvalidRequest(f"{text[:80]!a} is no email address", "write it as ana@example.org")
    local, _, domain = email.rpartition("@")
    return f"{local}@{domain.lower()}"


def check_token_name(text: str) -> str:
    """Return what a token is called, which may be nothing. Raises: InvalidRequest."""
    if len(text) > MAX_NAME_CHARS or not text.isprintable():
        raise InvalidRequest(
            f"a token's name is at most {MAX_NAME_CHARS} characters of text", "shorten it"
        )
    return text


def check_new_account(text: str) -> str:
    """Return a name that a customer may take. Raises: InvalidRequest."""
    if (
        not MIN_ACCOUNT_CHARS <= len(text) <= MAX_ACCOUNT_CHARS
        or _NEW_ACCOUNT.fullmatch(text) is None
    ):
        raise InvalidRequest(
            f"{text[:80]!a} is no name for an account",
            f"use {MIN_ACCOUNT_CHARS} to {MAX_ACCOUNT_CHARS} of a-z, 0-9 and single hyphens",
        )
    if text in RESERVED_ACCOUNTS or text.startswith(("edgeforge", "xn-")):
        raise InvalidRequest(f"the name {text!a} is reserved", "choose another name")
    return text


def checked_role(text: str) -> MemberRole:
    """Return the role that ``text`` names. Raises: InvalidRequest."""
    try:
        return MemberRole(text)
    except ValueError:
        roles = ", ".join(MemberRole)
        raise InvalidRequest(f"{text[:80]!r} is no role", f"there are {roles}") from None


def leaves_no_owner(members: Iterable[Member], member_id: str) -> bool:
    """Return whether an account would have no owner without this member as one."""
    return not any(one.role is MemberRole.OWNER and one.id != member_id for one in members)


def may_give(own: MemberRole, *roles: MemberRole) -> bool:
    """Return whether a member with the role ``own`` may give or take each of ``roles``."""
    return GRANTS[own].issuperset(roles)


def is_use_noted(token: MemberToken, now_unix_ms: int) -> bool:
    """Return whether a use now need not be written: one was, not long ago."""
    return abs(now_unix_ms - token.last_used_unix_ms) < NOTED_EVERY_MS
