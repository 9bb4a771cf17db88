"""The price card as a document: read from what a person wrote, shown in the same form. Pure.

What ``price show`` prints can be edited and proposed: the keys that the coordinator itself sets are
accepted and ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from protos.domain.errors import InvalidRequest
from protos.domain.price_card import CardState, PriceCard
from protos.domain.resources import CardTerms, Price, Tier

if TYPE_CHECKING:
    from collections.abc import Iterable

CURRENCY = "USD"
UNIT = "nano-USD per token"

RATES = (
    "prompt_nano_usd_per_token",
    "cached_nano_usd_per_token",
    "completion_nano_usd_per_token",
)
#: Keys of the surcharges in the document, and the fields of the terms.
SURCHARGES = {
    "realtime": "realtime_percent",
    "interactive": "interactive_percent",
    "standard": "standard_percent",
    "residency": "residency_percent",
}
_PERCENTS = ("promise_percent", "credit_percent")
#: Set by the coordinator; accepted because documents that were shown have them.
_IGNORED = frozenset(
    {
        *("version", "card_version", "state", "author", "proposed", "published", "published_by"),
        *("valid_from", "valid_from_unix_ms", "currency", "unit", "upcoming", "in_force"),
    }
)
_KNOWN = frozenset({"prices", "surcharges_percent", *_PERCENTS}) | _IGNORED
_LINE_KEYS = frozenset({"size_class", "tier", "card_version", *RATES})
#: Lines of a card: many times those of every size class and tier.
MAX_LINES = 200
_SHOWN = 10


def read_card(document: object) -> PriceCard:
    """Return the draft that a document describes, without number and date.

    Says every problem of form at once; what a card must satisfy is ``card_checks``'.
    Raises: InvalidRequest.
    """
    problems: list[str] = []
    if not isinstance(document, Mapping):
        raise _refused(["it is no table of keys"])
    problems += [f"{str(key)[:40]!r} is no key of it" for key in document if key not in _KNOWN]
    for key, only in (("currency", CURRENCY), ("unit", UNIT)):
        if document.get(key, only) != only:
            problems.append(f"{key} is {str(document[key])[:20]!r}, only {only!r} can be")
    lines = _read_lines(document.get("prices"), problems)
    terms = _read_terms(document, problems)
    if problems:
        raise _refused(problems)
    return PriceCard(tuple(lines), terms)


def _read_lines(given: object, problems: list[str]) -> list[Price]:
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        problems.append("prices is no list of lines")
        return []
    if len(given) > MAX_LINES:
        problems.append(f"{len(given)} lines are more than {MAX_LINES}")
        return []
    lines = []
    for number, values in enumerate(given, 1):
        where = f"line {number}"
        if not isinstance(values, Mapping):
            problems.append(f"{where} is no table of keys")
            continue
        problems += [
            f"{where}: {str(key)[:40]!r} is no key of a line"
            for key in values
            if key not in _LINE_KEYS
        ]
        size_class, tier = values.get("size_class"), values.get("tier")
        if not isinstance(size_class, str) or not 0 < len(size_class) <= 20:
            problems.append(f"{where}: size_class is missing")
            size_class = ""
        if not isinstance(tier, str) or tier not in set(Tier):
            problems.append(f"{where}: tier is {str(tier)[:20]!r}, not edge, regional or central")
            tier = Tier.EDGE
        prompt, cached, completion = (
            _integer(values.get(name), f"{where}: {name}", problems) for name in RATES
        )
        lines.append(Price(size_class, Tier(str(tier)), prompt, cached, completion, 0))
    return lines


def _read_terms(document: Mapping[object, object], problems: list[str]) -> CardTerms:
    given = document.get("surcharges_percent", {})
    values: dict[str, int] = {}
    if not isinstance(given, Mapping):
        problems.append("surcharges_percent is no table of keys")
        given = {}
    for key, one in given.items():
        if key not in SURCHARGES:
            problems.append(f"{str(key)[:40]!r} is no surcharge: {', '.join(SURCHARGES)}")
            continue
        values[SURCHARGES[key]] = _integer(one, f"surcharge {key}", problems)
    for key in _PERCENTS:
        if key in document:
            values[key] = _integer(document[key], key, problems)
    return CardTerms(0, **values)


def _integer(value: object, where: str, problems: list[str]) -> int:
    """Return a whole number; money is never a float, not even 12.0."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 31:
        if value >= 0:
            return value
        problems.append(f"{where} is {value}, below 0")
    elif value is None:
        problems.append(f"{where} is missing")
    else:
        problems.append(f"{where} is {str(value)[:20]!r}, no whole number")
    return 0


def _refused(problems: list[str]) -> InvalidRequest:
    more = len(problems) - _SHOWN
    said = "; ".join(problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    return InvalidRequest(
        f"the document is no price card: {said}",
        "edgeforge price show --json prints one that is",
    )


def show_card(card: PriceCard, *, in_force: bool = False) -> dict[str, object]:
    """Return a card as a document; ``read_card`` reads it back."""
    shown: dict[str, object] = {
        "version": card.version,
        "state": str(card.state),
        "in_force": in_force,
        "valid_from": iso_utc(card.valid_from_unix_ms),
        "valid_from_unix_ms": card.valid_from_unix_ms,
    }
    if card.author:
        shown |= {"author": card.author, "proposed": iso_utc(card.proposed_unix_ms)}
    if card.published_by:
        shown |= {"published_by": card.published_by, "published": iso_utc(card.published_unix_ms)}
    return shown | card_body(card.lines, card.terms)


def card_body(lines: Iterable[Price], terms: CardTerms) -> dict[str, object]:
    """Return what customers read of a card: surcharges, promise, credit, lines."""
    return {
        "currency": CURRENCY,
        "unit": UNIT,
        "surcharges_percent": {key: getattr(terms, name) for key, name in SURCHARGES.items()},
        **{key: getattr(terms, key) for key in _PERCENTS},
        "prices": [
            {
                "size_class": line.size_class,
                "tier": str(line.tier),
                **{name: getattr(line, name) for name in RATES},
                "card_version": line.card_version,
            }
            for line in lines
        ],
    }


def iso_utc(unix_ms: int) -> str:
    """Return "2026-12-01T00:00:00Z"; empty for 0."""
    if not unix_ms:
        return ""
    moment = datetime.fromtimestamp(unix_ms / 1_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def unix_ms_of(text: str, param: str) -> int:
    """Return the moment of "2026-12-01" or "2026-12-01T09:30:00+01:00"; without a zone it is UTC.

    Raises: InvalidRequest.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidRequest(
            f"{text[:40]!r} is no date", "write 2026-12-01 or 2026-12-01T09:30:00Z", param=param
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000)


def as_draft(card: PriceCard, author: str, now_unix_ms: int, valid_from_unix_ms: int) -> PriceCard:
    """Return ``card`` as proposed by ``author``."""
    terms = replace(card.terms, valid_from_unix_ms=valid_from_unix_ms)
    return PriceCard(card.lines, terms, CardState.DRAFT, author, now_unix_ms)
