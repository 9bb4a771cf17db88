"""Traces as real requests leave them, for tests of their storage, lists, views and export."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from protos.domain.pricing import Cost, Usage
from protos.domain.resources import Tier
from protos.domain.trace import AttemptOutcome, FarTimes, Trace, TraceAttempt, TraceCandidate
from protos.domain.ttft import TERMS

_BEGAN_UNIX_MS = 1_700_000_000_000


def candidate(node_id: str, tier: Tier, **changes: Any) -> TraceCandidate:
    """One that fits, and was not chosen."""
    made = TraceCandidate(
        node_id=node_id,
        pop_id=node_id[:3].upper(),
        tier=tier,
        fits=True,
        chosen=False,
        ttft_ms_p50=90.0,
        ttft_ms_p99=141.0,
        term_names=TERMS,
        term_values_ms=(23.5,) * len(TERMS),
        price_nano_usd_per_1k_tokens=11_000,
        headroom=4,
    )
    return replace(made, **changes)


def trace(number: int = 0, **changes: Any) -> Trace:
    """A stream through BOM that DXB served; ``number`` makes id and time its own."""
    chosen = candidate("dxb-1", Tier.REGIONAL, chosen=True)
    other = candidate("iad-1", Tier.CENTRAL, fits=False, ttft_ms_p99=305.0)
    made = Trace(
        trace_id=f"{number:032x}",
        ingress_node_id="bom-1",
        ingress_pop_id="BOM",
        began_unix_ms=_BEGAN_UNIX_MS + number * 1_000,
        path="/v1/chat/completions",
        deployment="acme-chat",
        account="acme",
        model="acme/chat@1",
        stream=True,
        status=200,
        budget_ms=250.0,
        last_mile_ms=12.0,
        read_ms=0.4,
        authed_ms=0.7,
        placed_ms=1.1,
        asked_ms=1.1,
        first_token_ms=131.0,
        ended_ms=420.0,
        far=FarTimes(admission_ms=0.3, queue_ms=8.0, engine_ms=90.0),
        token_gaps_us=(131_000, *([28_900] * 10)),
        attempts=(
            TraceAttempt(
                node_id="dxb-1",
                outcome=AttemptOutcome.ANSWERED,
                began_ms=1.1,
                took_ms=418.9,
                budget_left_ms=236.9,
                candidates=(chosen, other),
            ),
        ),
        node_id="dxb-1",
        pop_id="DXB",
        serving_tier="regional",
        billing_tier="regional",
        predicted_ttft_ms_p99=141.0,
        usage=Usage(prompt_tokens=31, cached_tokens=16, completion_tokens=11),
        cost=Cost(prompt_nano_usd=1_500, cached_nano_usd=400, completion_nano_usd=3_300),
        card_version=7,
    )
    return replace(made, **changes)


def refused(number: int = 0) -> Trace:
    """A trace of a request that failed at authentication."""
    return replace(
        trace(number),
        status=503,
        error="no engine can serve 'acme-chat' now: dead",
        placed_ms=None,
        asked_ms=None,
        first_token_ms=None,
        far=None,
        token_gaps_us=(),
        attempts=(),
        node_id="",
        pop_id="",
        serving_tier="",
        billing_tier="",
        usage=Usage(0, 0, 0),
        cost=Cost(0, 0, 0),
        card_version=0,
    )
