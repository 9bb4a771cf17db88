"""The public price card, as JSON and as a page."""

from __future__ import annotations

import html
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

import orjson

from protos.domain.pricing import SIZE_CLASSES
from protos.domain.resources import Tier

if TYPE_CHECKING:
    from protos.domain.resources import Price

_TIERS = tuple(Tier)
_NANO_PER_TOKEN_TO_USD_PER_MILLION = Decimal(1_000_000) / Decimal(1_000_000_000)


def card_json(prices: Iterable[Price]) -> bytes:
    """Return the card; rates are integers in nano-USD per token."""
    lines = _sorted(prices)
    card = {
        "card_version": _version(lines),
        "currency": "USD",
        "unit": "nano-USD per token",
        "prices": [
            {
                "size_class": price.size_class,
                "tier": str(price.tier),
                "prompt_nano_usd_per_token": price.prompt_nano_usd_per_token,
                "cached_nano_usd_per_token": price.cached_nano_usd_per_token,
                "completion_nano_usd_per_token": price.completion_nano_usd_per_token,
                "card_version": price.card_version,
            }
            for price in lines
        ],
    }
    return orjson.dumps(card)


def card_html(prices: Iterable[Price]) -> str:
    """Return the card as a page without scripts, in USD for a million tokens."""
    lines = _sorted(prices)
    rows = "\n".join(_row(price) for price in lines)
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
</style>
</head>
<body>
<h1>Prices</h1>
<p>USD for a million tokens. Card version {_version(lines)}.</p>
<table>
<thead><tr><th>Model size</th><th>Tier</th><th>Prompt</th><th>Cached prompt</th><th>Completion</th>
</tr></thead>
<tbody>
{rows}
</tbody>
</table>
<p>For programs: <a href="/v1/prices">/v1/prices</a></p>
</body>
</html>
"""


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


def _sorted(prices: Iterable[Price]) -> list[Price]:
    return sorted(prices, key=lambda price: (_class_order(price), _TIERS.index(price.tier)))


def _class_order(price: Price) -> tuple[int, str]:
    known = price.size_class in SIZE_CLASSES
    order = SIZE_CLASSES.index(price.size_class) if known else len(SIZE_CLASSES)
    return order, price.size_class


def _version(prices: Iterable[Price]) -> int:
    return max((price.card_version for price in prices), default=0)
