"""Posts usage to the ledger, in the transaction that counts it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordinator.billing import account_credits, books
from coordinator.core import grants, ledger
from coordinator.core.grants import Credit, CreditKind
from coordinator.core.months import month_number_of, text_of_month
from protos.domain.errors import Conflict

if TYPE_CHECKING:
    import sqlite3

    from coordinator.core.usage_rollup import UsageDelta

_LINE = (
    "INSERT INTO month_lines (account, booked_month, usage_month, deployment, tier_billed,"
    " sla_tier, card_version, requests, prompt_tokens, cached_tokens, completion_tokens, nano_usd,"
    " streams, streams_in_time) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (account, booked_month, usage_month, deployment, tier_billed, sla_tier,"
    " card_version) DO UPDATE SET requests = requests + excluded.requests,"
    " prompt_tokens = prompt_tokens + excluded.prompt_tokens,"
    " cached_tokens = cached_tokens + excluded.cached_tokens,"
    " completion_tokens = completion_tokens + excluded.completion_tokens,"
    " nano_usd = nano_usd + excluded.nano_usd, streams = streams + excluded.streams,"
    " streams_in_time = streams_in_time + excluded.streams_in_time"
)


def post(connection: sqlite3.Connection, deltas: Sequence[UsageDelta], at_unix_ms: int) -> None:
    """Add usage to the lines of its months, and to the ledger: from credits as far as they go.

    Idempotent as its caller is: a batch that is counted once is posted once.
    Raises: Conflict if a month was closed since the batch was booked; the batch is sent again.
    """
    _require_open(connection, deltas)
    connection.executemany(_LINE, _lines(deltas).values())
    by_account: dict[tuple[str, int], list[UsageDelta]] = defaultdict(list)
    for delta in deltas:
        if delta.sums.nano_usd:
            by_account[delta.key.account, delta.booked_month].append(delta)
    for (account, month), of_month in sorted(by_account.items()):
        _post_month(connection, account, month, of_month, at_unix_ms)


def _require_open(connection: sqlite3.Connection, deltas: Sequence[UsageDelta]) -> None:
    (closed,) = connection.execute("SELECT coalesce(max(month), 0) FROM closed_months").fetchone()
    if any(delta.booked_month <= closed for delta in deltas):
        raise Conflict(
            f"{text_of_month(closed)} has just been closed",
            "the usage is sent again and booked in the next month",
            retryable=True,
        )


def _lines(deltas: Sequence[UsageDelta]) -> dict[tuple[object, ...], tuple[object, ...]]:
    """Return the rows to add up, by their key, so that each is written once a batch."""
    names = (
        *("requests", "prompt_tokens", "cached_tokens", "completion_tokens"),
        *("nano_usd", "streams", "streams_in_time"),
    )
    lines: dict[tuple[object, ...], list[int]] = {}
    for key, sums, booked in deltas:
        if not sums.requests:
            continue
        line = (
            *(key.account, booked, month_number_of(key.minute_unix_ms), key.deployment),
            *(key.tier_billed, key.sla_tier, key.card_version),
        )
        amounts = lines.setdefault(line, [0] * len(names))
        for place, name in enumerate(names):
            amounts[place] += getattr(sums, name)
    return {line: (*line, *amounts) for line, amounts in lines.items()}


def _post_month(
    connection: sqlite3.Connection,
    account: str,
    month: int,
    deltas: Sequence[UsageDelta],
    at_unix_ms: int,
) -> None:
    """Post one account's usage of a month as one transaction."""
    total = sum(delta.sums.nano_usd for delta in deltas)
    left = account_credits.left_of(connection, account)
    used: dict[CreditKind, int] = {CreditKind.GRANT: 0, CreditKind.PREPAID: 0}
    if left:
        for delta in sorted(deltas, key=lambda one: one.key.minute_unix_ms):
            left = _use(connection, left, delta, used)
        if any(used.values()):
            connection.execute(
                "INSERT INTO month_credits VALUES (?, ?, ?, ?)"
                " ON CONFLICT (account, booked_month) DO UPDATE SET"
                " grants_nano_usd = grants_nano_usd + excluded.grants_nano_usd,"
                " prepaid_nano_usd = prepaid_nano_usd + excluded.prepaid_nano_usd",
                (account, month, used[CreditKind.GRANT], used[CreditKind.PREPAID]),
            )
    books.append(
        connection,
        ledger.of_usage(
            account,
            text_of_month(month),
            at_unix_ms,
            total,
            from_grants_nano_usd=used[CreditKind.GRANT],
            from_prepaid_nano_usd=used[CreditKind.PREPAID],
        ),
    )


def _use(
    connection: sqlite3.Connection,
    left: list[Credit],
    delta: UsageDelta,
    used: dict[CreditKind, int],
) -> list[Credit]:
    parts, _ = grants.use(left, delta.sums.nano_usd, delta.key.minute_unix_ms)
    for part in parts:
        used[part.credit.kind] += part.nano_usd
        account_credits.lower(connection, part)
    lowered = {part.credit.id: part.nano_usd for part in parts}
    return [account_credits.after(one, lowered.get(one.id, 0)) for one in left]
