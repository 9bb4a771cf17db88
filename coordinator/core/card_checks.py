"""What a version of the price card must satisfy; every problem is named at once. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from coordinator.core.price_card import line_of
from protos.domain.card_document import MAX_LINES
from protos.domain.errors import InvalidRequest
from protos.domain.price_card import CardState, PriceCard
from protos.domain.pricing import SIZE_CLASSES
from protos.domain.resources import Tier

if TYPE_CHECKING:
    from protos.domain.resources import CardTerms, Price

#: Declared premium of edge over central, of each rate, in percent.
MIN_EDGE_PREMIUM_PERCENT = 15
MAX_EDGE_PREMIUM_PERCENT = 25
#: A thousand dollars for a million tokens: keeps the cost of any request within 64 bits.
MAX_RATE_NANO_USD = 1_000_000
MAX_SURCHARGE_PERCENT = 100
MIN_PROMISE_PERCENT = 50
#: A date further ahead is a mistyped one.
MAX_AHEAD_MS = 2 * 366 * 86_400_000
#: Problems that a refusal names; the rest is counted.
_SHOWN = 20

_RATES = (
    ("prompt", "prompt_nano_usd_per_token"),
    ("cached", "cached_nano_usd_per_token"),
    ("completion", "completion_nano_usd_per_token"),
)


def check_card(
    card: PriceCard, others: Iterable[PriceCard], deployed: Mapping[str, str], now_unix_ms: int
) -> None:
    """Refuse a card that may not be published, or proposed. Raises: InvalidRequest.

    ``others`` are the other versions; ``deployed`` is deployment -> size class of its model.
    """
    problems = [
        *line_problems(card.lines, frozenset(deployed.values())),
        *terms_problems(card.terms),
        *date_problems(card, others, now_unix_ms),
        *coverage_problems(card.lines, deployed),
    ]
    if problems:
        more = len(problems) - _SHOWN
        said = "; ".join(problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise InvalidRequest(
            f"the price card has {len(problems)} problem{'s' * (len(problems) != 1)}: {said}",
            "mend the file, and try it with edgeforge price propose FILE --dry-run",
        )


def line_problems(lines: Collection[Price], deployed: Collection[str] = ()) -> Iterator[str]:
    """Yield what is wrong with a card's lines, in the order of size classes."""
    if len(lines) > MAX_LINES:
        yield f"{len(lines)} lines are more than {MAX_LINES}"
        return
    counted = Counter((line.size_class, line.tier) for line in lines)
    for (size_class, tier), count in counted.items():
        if count > 1:
            yield f"{size_class} {tier} has {count} lines"
    known = (*SIZE_CLASSES, *sorted(set(deployed) - set(SIZE_CLASSES)))
    for size_class in dict.fromkeys(line.size_class for line in lines):
        if size_class not in known:
            yield f"{size_class[:20]!r} is no size class ({', '.join(SIZE_CLASSES)})"
    for size_class in known:
        by_tier = {tier: line_of(lines, size_class, tier) for tier in Tier}
        for tier, line in by_tier.items():
            if line is None:
                if size_class in SIZE_CLASSES:  # of others, ``coverage_problems`` tells
                    yield f"{size_class} {tier} has no line"
                continue
            yield from _rate_problems(line)
        yield from _premium_problems(size_class, by_tier)


def _rate_problems(line: Price) -> Iterator[str]:
    where = f"{line.size_class} {line.tier}"
    for word, field in _RATES:
        rate = getattr(line, field)
        if rate < 1:
            yield f"{where}: {word} is {rate}, at least 1 nano-USD per token"
        elif rate > MAX_RATE_NANO_USD:
            yield f"{where}: {word} is {rate}, at most {MAX_RATE_NANO_USD} nano-USD per token"
    if line.cached_nano_usd_per_token > line.prompt_nano_usd_per_token > 0:
        yield (
            f"{where}: cached ({line.cached_nano_usd_per_token}) is dearer than prompt"
            f" ({line.prompt_nano_usd_per_token})"
        )


def _premium_problems(size_class: str, by_tier: Mapping[Tier, Price | None]) -> Iterator[str]:
    central = by_tier[Tier.CENTRAL]
    edge, regional = by_tier[Tier.EDGE], by_tier[Tier.REGIONAL]
    for word, field in _RATES:
        base, highest = (getattr(line, field) if line else 0 for line in (central, edge))
        if base < 1:
            continue  # named already
        if highest > 0:
            over = (highest - base) * 100
            if not MIN_EDGE_PREMIUM_PERCENT * base <= over <= MAX_EDGE_PREMIUM_PERCENT * base:
                yield (
                    f"{size_class}: {word} at the edge is {over / base:.1f} % over central,"
                    f" not {MIN_EDGE_PREMIUM_PERCENT} to {MAX_EDGE_PREMIUM_PERCENT} %"
                )
        rate = getattr(regional, field) if regional else 0
        if rate > 0 and highest > 0 and not base <= rate <= highest:
            yield (
                f"{size_class}: {word} of regional ({rate}) is not between central ({base})"
                f" and edge ({highest})"
            )


def terms_problems(terms: CardTerms) -> Iterator[str]:
    """Yield what is wrong with a card's terms."""
    for word, percent in (
        ("realtime", terms.realtime_percent),
        ("interactive", terms.interactive_percent),
        ("standard", terms.standard_percent),
        ("residency", terms.residency_percent),
    ):
        if not 0 <= percent <= MAX_SURCHARGE_PERCENT:
            yield f"the {word} surcharge is {percent} %, not 0 to {MAX_SURCHARGE_PERCENT} %"
    if not terms.standard_percent <= terms.interactive_percent <= terms.realtime_percent:
        yield (
            f"surcharges rise from standard ({terms.standard_percent} %) over interactive"
            f" ({terms.interactive_percent} %) to realtime ({terms.realtime_percent} %)"
        )
    if not MIN_PROMISE_PERCENT <= terms.promise_percent <= 100:
        yield f"the promise is {terms.promise_percent} %, not {MIN_PROMISE_PERCENT} to 100 %"
    if not 0 <= terms.credit_percent <= 100:
        yield f"the credit is {terms.credit_percent} %, not 0 to 100 %"


def date_problems(card: PriceCard, others: Iterable[PriceCard], now_unix_ms: int) -> Iterator[str]:
    """Yield what is wrong with a card's number and date; 0 is the moment of its publication."""
    published = [one for one in others if one.state is not CardState.DRAFT]
    newest = max((one.version for one in published), default=0)
    if card.version <= newest:
        yield f"version {card.version} is not above version {newest}, which is published"
    valid_from = card.valid_from_unix_ms or now_unix_ms
    if valid_from < now_unix_ms:
        yield "its date has passed"
    if valid_from > now_unix_ms + MAX_AHEAD_MS:
        yield "its date is more than two years ahead"
    for one in published:
        if one.valid_from_unix_ms > max(valid_from, now_unix_ms):
            yield f"version {one.version}, which takes effect later, is published already"


def coverage_problems(lines: Collection[Price], deployed: Mapping[str, str]) -> Iterator[str]:
    """Yield which deployments a card would leave without a price, by size class and tier."""
    for size_class in sorted(set(deployed.values())):
        missing = [str(tier) for tier in Tier if line_of(lines, size_class, tier) is None]
        if missing:
            names = sorted(name for name, known in deployed.items() if known == size_class)
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield (
                f"size class {size_class} would have no price at {', '.join(missing)}, and"
                f" {', '.join(names[:3])}{more} is deployed"
            )


def check_priced(
    size_class: str, model: str, in_force: Collection[Price], upcoming: Iterable[PriceCard]
) -> None:
    """Refuse to deploy a model that the card has no price for. Raises: InvalidRequest.

    It must have one in every tier, since any of them may serve a request, and on every card that is
    published for later.
    """
    cards = [
        ("the price card", in_force),
        *((f"version {one.version} of the price card", one.lines) for one in upcoming),
    ]
    for which, lines in cards:
        missing = [str(tier) for tier in Tier if line_of(lines, size_class, tier) is None]
        if missing:
            raise InvalidRequest(
                f"model {model} is not priced: {which} has no line for size class"
                f" {size_class or 'unknown'} at {', '.join(missing)}",
                "publish a card that has one: edgeforge price show --json > card.json, add the"
                " lines, edgeforge price propose card.json, edgeforge price publish VERSION",
                param="model",
            )
