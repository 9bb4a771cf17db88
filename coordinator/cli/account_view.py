"""Accounts and keys as text in the terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from protos.output.terminal import print_line, print_table

if TYPE_CHECKING:
    from protos.v1 import accounts_pb2, resources_pb2


def print_account(detail: accounts_pb2.AccountDetail) -> None:
    """Print an account with its members and invitations."""
    one = detail.account
    print_line(f"{one.id}: {one.state}{created_text(one)}")
    made = f"created {minute(one.created_unix_ms)}" if one.created_unix_ms else "created long ago"
    print_line(f"{made}{f' by {one.created_by}' if one.created_by else ''}")
    limits = limits_text(one.limits, funded=one.funded)
    print_line(f"limits: {limits}; zones: {', '.join(one.zones) or 'any'}")
    if one.funded:
        print_line(f"what is left of it: edgeforge payment status {one.id}")
    print_line(f"{one.keys} keys, {one.deployments} deployments")
    print_table(
        ("member", "email", "role", "since", "last use", "tokens"),
        (
            (
                member.id,
                member.email,
                member.role,
                minute(member.created_unix_ms),
                minute(member.last_used_unix_ms),
                str(member.tokens),
            )
            for member in detail.members
        ),
        f"no members; edgeforge account invite {one.id} --email THEIRS makes an invitation",
    )
    if detail.invitations:
        print_table(
            ("invitation", "email", "role", "until", "by"),
            (
                (one.id, one.email, one.role, minute(one.expires_unix_ms), one.created_by)
                for one in detail.invitations
            ),
            "",
        )


def created_text(summary: accounts_pb2.AccountSummary) -> str:
    """Return since when, by whom and why an account is in its state."""
    if not summary.state_since_unix_ms:
        return ""
    why = f": {summary.reason}" if summary.reason else ""
    return f" since {minute(summary.state_since_unix_ms)} by {summary.state_by}{why}"


def scopes_text(key: accounts_pb2.ScopedKey) -> str:
    """Return what a key is limited to."""
    scopes = (key.deployments, key.endpoints, key.origins, key.zones)
    return "; ".join(", ".join(one) for one in scopes if one) or "all"


def limits_text(limits: resources_pb2.UsageLimits, *, funded: bool = False) -> str:
    """Return limits in words. ``funded``: its spending is bounded, too."""
    said = (
        (limits.max_concurrent_sequences, "sequences"),
        (limits.requests_per_minute, "requests/min"),
        (limits.tokens_per_minute, "tokens/min"),
    )
    found = [f"{limit:,} {what}" for limit, what in said if limit]
    if funded:
        found.append("a balance or a cap")
    return ", ".join(found) or "none"


def minute(unix_ms: int) -> str:
    """Return a time to the minute, in UTC; "never" for 0."""
    return f"{datetime.fromtimestamp(unix_ms / 1_000, UTC):%F %R}" if unix_ms else "never"
