"""The public price card, as JSON and as a page."""

from __future__ import annotations

import html
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

import orjson

from coordinator.core.price_examples import EXAMPLE, examples_of
from protos.domain.card_document import card_body, iso_utc
from protos.domain.pricing import SIZE_CLASSES
from protos.domain.resources import SlaTier, Tier

if TYPE_CHECKING:
    from coordinator.core.price_examples import PriceExample
    from protos.domain.price_card import PriceCard
    from protos.domain.resources import CardTerms, Price

_TIERS = tuple(Tier)
_NANO_PER_TOKEN_TO_USD_PER_MILLION = Decimal(1_000_000) / Decimal(1_000_000_000)
_SLA_WORDS = {
    SlaTier.REALTIME: "P99 of the first token under 80 ms",
    SlaTier.INTERACTIVE: "P99 of the first token under 200 ms",
    SlaTier.STANDARD: "the deployment's own budget",
}


def card_json(card: PriceCard, upcoming: PriceCard | None = None) -> bytes:
    """Return the card, and the next one if it is published; rates are integers."""
    return orjson.dumps(
        _public(card)
        | {
            "examples": [
                {
                    "size_class": one.size_class,
                    "tier": str(one.tier),
                    "sla_tier": str(one.sla_tier),
                    "residency": one.pinned,
                    "surcharge_percent": one.percent,
                    "prompt_tokens": EXAMPLE.prompt_tokens,
                    "cached_tokens": EXAMPLE.cached_tokens,
                    "completion_tokens": EXAMPLE.completion_tokens,
                    "nano_usd": one.nano_usd,
                }
                for one in examples_of(card.lines, card.terms)
            ],
            "upcoming": None if upcoming is None else _public(upcoming),
        }
    )


def _public(card: PriceCard) -> dict[str, object]:
    return {
        "card_version": card.version,
        "valid_from": iso_utc(card.valid_from_unix_ms),
        "valid_from_unix_ms": card.valid_from_unix_ms,
        **card_body(_sorted(card.lines), card.terms),
    }


def card_html(card: PriceCard, upcoming: PriceCard | None = None) -> str:
    """Return the card as a page without scripts, in USD for a million tokens."""
    since = iso_utc(card.valid_from_unix_ms)
    in_force = f", in force since {since}" if since else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>EdgeForge prices</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ padding: .3rem .6rem; border-bottom: 1px solid #ccc; text-align: right }}
th:nth-child(-n+2), td:nth-child(-n+2) {{ text-align: left }}
.soon {{ border-left: 4px solid #c80; padding-left: 1rem }}
</style>
</head>
<body>
<h1>Prices</h1>
<p>USD for a million tokens. Card version {card.version}{in_force}. You pay for the cheapest tier
that was predicted to meet your budget, whichever tier served the request. Answers that are empty
or failed cost nothing.</p>
{_table(card.lines)}
{_terms(card.terms)}
{_examples(examples_of(card.lines, card.terms))}
{_upcoming(upcoming)}
<p>For programs: <a href="/pricing.json">/pricing.json</a>, in nano-USD per token.</p>
</body>
</html>
"""


def _table(lines: Iterable[Price]) -> str:
    rows = "\n".join(_row(price) for price in _sorted(lines))
    return f"""<table>
<thead><tr><th>Model size</th><th>Tier</th><th>Prompt</th><th>Cached prompt</th><th>Completion</th>
</tr></thead>
<tbody>
{rows}
</tbody>
</table>"""


def _terms(terms: CardTerms) -> str:
    percents = {
        SlaTier.REALTIME: terms.realtime_percent,
        SlaTier.INTERACTIVE: terms.interactive_percent,
        SlaTier.STANDARD: terms.standard_percent,
    }
    rows = "\n".join(
        f"<tr><td>{tier}</td><td>{_SLA_WORDS[tier]}</td><td>+{percent} %</td></tr>"
        for tier, percent in percents.items()
    )
    promise = ""
    if terms.promise_percent:
        promise = f""" {terms.promise_percent} % of a month's streams have their first token in
time; where fewer do, {terms.credit_percent} % of what the service level has cost that month is
credited on the next invoice."""
    return f"""<h2>Service levels</h2>
<table>
<thead><tr><th>Service level</th><th>Promise</th><th>Surcharge</th></tr></thead>
<tbody>
{rows}
<tr><td>residency</td><td>served in the zones that you name</td>
<td>+{terms.residency_percent} %</td></tr>
</tbody>
</table>
<p>Surcharges are added to each other, then to each rate.{promise}</p>"""


def _examples(examples: Iterable[PriceExample]) -> str:
    rows = "\n".join(
        f"<tr><td>{one.size_class} {one.tier}</td>"
        f"<td>{one.sla_tier}{', with residency' if one.pinned else ''}</td>"
        f"<td>+{one.percent} %</td><td>{_usd(one.nano_usd)}</td></tr>"
        for one in examples
    )
    fresh = EXAMPLE.prompt_tokens - EXAMPLE.cached_tokens
    return f"""<h2>What a million tokens cost</h2>
<p>{fresh:,} tokens of prompt, {EXAMPLE.cached_tokens:,} of prompt from the cache and
{EXAMPLE.completion_tokens:,} of completion:</p>
<table>
<thead><tr><th>Billed as</th><th>Service level</th><th>Surcharge</th><th>USD</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>"""


def _upcoming(card: PriceCard | None) -> str:
    if card is None:
        return ""
    return f"""<section class="soon">
<h2>From {iso_utc(card.valid_from_unix_ms)}</h2>
<p>Card version {card.version}. Requests that begin before then are billed by the present card.</p>
{_table(card.lines)}
{_terms(card.terms)}
</section>"""


def _row(price: Price) -> str:
    rates = (
        price.prompt_nano_usd_per_token,
        price.cached_nano_usd_per_token,
        price.completion_nano_usd_per_token,
    )
    cells = "".join(f"<td>{_usd_per_million(rate)}</td>" for rate in rates)
    return f"<tr><td>{html.escape(price.size_class)}</td><td>{price.tier}</td>{cells}</tr>"


def _usd_per_million(rate_nano_usd: int) -> str:
    return f"{rate_nano_usd * _NANO_PER_TOKEN_TO_USD_PER_MILLION:.3f}"


def _usd(nano_usd: int) -> str:
    return f"{Decimal(nano_usd) / 1_000_000_000:.4f}"


def _sorted(prices: Iterable[Price]) -> list[Price]:
    return sorted(prices, key=lambda price: (_class_order(price), _TIERS.index(price.tier)))


def _class_order(price: Price) -> tuple[int, str]:
    known = price.size_class in SIZE_CLASSES
    order = SIZE_CLASSES.index(price.size_class) if known else len(SIZE_CLASSES)
    return order, price.size_class
