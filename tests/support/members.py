"""Members of the account acme, with tokens and an invitation."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from coordinator.core.members import INVITATION_LIFE_MS, Invitation, Member, MemberRole, MemberToken
from coordinator.operations.actor import Actor
from coordinator.store.member_facts import InvitationRow, MemberRow, MemberTokenRow

if TYPE_CHECKING:
    from coordinator.store.store import Store
    from coordinator.store.transaction import Transaction
    from tests.support.operations import OperatedFleet

INVITATION_ID = "f" * 16
DAY_MS = 24 * 3_600_000


def token_text(number: str) -> str:
    """Return the text of a token by the last digits of its id."""
    return f"efm-{number:0>16}-{'s' * 64}"


async def put_member(
    store: Store,
    now_unix_ms: int,
    number: str,
    role: MemberRole,
    account_id: str = "acme",
    *,
    ends_unix_ms: int = 0,
) -> str:
    """Add a member ``m-<number>`` with one token; return the token's text."""
    text = token_text(number)
    member = Member(f"m-{number}", account_id, f"m{number}@example.org", role, now_unix_ms)
    token = MemberToken(
        f"{number:0>16}",
        member.id,
        hashlib.sha256(text.encode()).digest(),
        "test",
        now_unix_ms,
        ends_unix_ms or now_unix_ms + 90 * DAY_MS,
    )

    def write(tx: Transaction) -> None:
        tx.put_fact(MemberRow(member))
        tx.put_fact(MemberTokenRow(token))

    await store.write(write)
    return text


async def put_members(fleet: OperatedFleet) -> None:
    """Add an owner m-1 with the token t-1, a developer m-2, and an invitation."""
    now_unix_ms = fleet.clock()
    await put_member(fleet.store, now_unix_ms, "1", MemberRole.OWNER)
    await put_member(fleet.store, now_unix_ms, "2", MemberRole.DEVELOPER)
    named = MemberToken("t-1", "m-1", b"d" * 32, "named", now_unix_ms, now_unix_ms + DAY_MS)
    invitation = Invitation(
        INVITATION_ID,
        b"i" * 32,
        "acme",
        MemberRole.VIEWER,
        "",
        now_unix_ms,
        "operator/ana",
        now_unix_ms + INVITATION_LIFE_MS,
    )

    def write(tx: Transaction) -> None:
        tx.put_fact(MemberTokenRow(named))
        tx.put_fact(InvitationRow(invitation))

    await fleet.store.write(write)


def member_actor(fleet: OperatedFleet, member_id: str) -> Actor:
    """Return a member that was put."""
    return Actor.of_member(fleet.store.members()[member_id], "192.0.2.9")
