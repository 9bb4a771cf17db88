"""A fleet whose agents ship usage: its table, records that fit it, and batches of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.core.price_card import default_price_card
from coordinator.core.usage_batch import SpoolBatch
from coordinator.core.usage_checks import KnownFleet
from coordinator.usage.database import UsageDatabase
from coordinator.usage.ingest import Ingest
from protos.domain.customers import Account, ApiKey
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.pricing import surcharged
from protos.domain.resources import CardTerms, Pop, Price, SlaTier, Tier
from protos.domain.usage_record import BillingReason, UsageCause, UsageRecord
from protos.wire.usage import encode_record
from tests.support import fleets

if TYPE_CHECKING:
    from protos.domain.resources import Resource

#: 2026-11-28 12:00 UTC
NOW_UNIX_MS = 1_795_867_200_000
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
ENROLLED_UNIX_MS = NOW_UNIX_MS - 400 * DAY_MS
SPOOL = "5" * 32
TERMS = CardTerms(1, 0, 30, 10, 0, 15)
CARD = default_price_card()
TIERS = {"GRU": Tier.EDGE, "IAD": Tier.CENTRAL}


def rows(
    *, accounts: Sequence[str] = ("acme",), nodes: Sequence[str] = ("gru-1", "iad-1")
) -> list[Resource]:
    """Return the rows of a fleet in which each account has a key and the deployment ``small``."""
    pops = {*TIERS, *map(pop_of, nodes)}
    found: list[Resource] = [Pop(one, tier_of(one), "BR", one, 0.0, 0.0) for one in sorted(pops)]
    found += [fleets.node(one, pop_of(one)) for one in nodes]
    found += [fleets.replica(one) for one in nodes]
    found += [fleets.model(), *CARD, TERMS]
    for account in accounts:
        found.append(Account(account))
        found.append(ApiKey(f"k-{account}", account.encode(), account, (), 0))
        found.append(replace(fleets.deployment(name_of(account)), account_id=account))
    return found


def pop_of(node: str) -> str:
    """Return the POP of ``gru-1``: GRU."""
    return node.split("-")[0].upper()


def tier_of(pop: str) -> Tier:
    """Return the tier of a POP."""
    return TIERS.get(pop, Tier.EDGE)


def name_of(account: str) -> str:
    """Return the deployment of an account."""
    return "small" if account == "acme" else f"small-{account}"


def view(**kwargs: Sequence[str]) -> FleetView:
    """Return the table of ``rows``."""
    return with_changes(FleetView(), (), rows(**kwargs))


def rates(sla_tier: SlaTier, tier: Tier, *, pinned: bool = False) -> Price:
    """Return what the card says for the model of ``rows``."""
    line = next(one for one in CARD if (one.size_class, one.tier) == ("xs", tier))
    return surcharged(line, TERMS, sla_tier, pinned=pinned)


def record(number: int = 1, account: str = "acme", **changes: object) -> UsageRecord:
    """Return a record that fits ``rows``, priced after ``changes`` unless they say otherwise."""
    node = str(changes.get("serving_node", "gru-1"))
    pop = pop_of(node)
    fields: dict[str, object] = {
        "trace_id": f"{number:032x}",
        "began_unix_ms": NOW_UNIX_MS - MINUTE_MS,
        "account": account,
        "key_id": f"k-{account}",
        "deployment": name_of(account),
        "model": fleets.MODEL,
        "size_class": "xs",
        "sla_tier": SlaTier.STANDARD,
        "path": "/v1/chat/completions",
        "stream": True,
        "status": 200,
        "cause": UsageCause.COMPLETE,
        "prompt_tokens": 100,
        "cached_tokens": 20,
        "completion_tokens": 50,
        "tier_served": tier_of(pop),
        "tier_billed": tier_of(pop),
        "billing_reason": BillingReason.CHEAPEST,
        "card_version": 1,
        "serving_node": node,
        "serving_pop": pop,
        "ingress_pop": "GRU",
        "budget_ms": 150,
        "ttft_us": 40_000,
        "stream_us": 900_000,
        "predicted_miss": False,
        "zones": (),
    } | changes
    if "nano_usd" not in fields:
        price = rates(fields["sla_tier"], fields["tier_billed"], pinned=bool(fields["zones"]))  # type: ignore[arg-type]
        prompt, cached, completion = (
            int(str(fields[f"{one}_tokens"])) for one in ("prompt", "cached", "completion")
        )
        fields |= {
            "prompt_nano_usd_per_token": price.prompt_nano_usd_per_token,
            "cached_nano_usd_per_token": price.cached_nano_usd_per_token,
            "completion_nano_usd_per_token": price.completion_nano_usd_per_token,
            "nano_usd": (prompt - cached) * price.prompt_nano_usd_per_token
            + cached * price.cached_nano_usd_per_token
            + completion * price.completion_nano_usd_per_token,
        }
    return UsageRecord(**fields)  # type: ignore[arg-type]


def batch(
    records: Sequence[UsageRecord] = (),
    *,
    first: int = 1,
    node: str = "gru-1",
    spool: str = SPOOL,
    arrived_unix_ms: int = NOW_UNIX_MS,
    payloads: Sequence[tuple[int, bytes]] = (),
    **changes: object,
) -> SpoolBatch:
    """Return a batch with ``records`` from number ``first`` on, or with ``payloads``."""
    payloads = payloads or [
        (first + place, encode_record(one)) for place, one in enumerate(records)
    ]
    made = SpoolBatch(
        node=node,
        spool=spool,
        first_seq=first,
        last_seq=first + max(len(records), 1) - 1,
        records=payloads,
        arrived_unix_ms=arrived_unix_ms,
        enrolled_unix_ms=ENROLLED_UNIX_MS,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def ingesting(
    path: Path,
    *,
    table: FleetView | None = None,
    closed_through_unix_ms: Callable[[], int] = lambda: 0,
    **kwargs: object,
) -> AsyncIterator[tuple[UsageDatabase, Ingest]]:
    """Open a database at ``path`` and what counts into it."""
    database = await UsageDatabase.open(path, lambda: NOW_UNIX_MS)
    ingest = Ingest(
        database,
        known=KnownFleet(),
        closed_through_unix_ms=closed_through_unix_ms,
        **kwargs,  # type: ignore[arg-type]
    )
    ingest.saw(table or view())
    try:
        yield database, ingest
    finally:
        await database.close()
