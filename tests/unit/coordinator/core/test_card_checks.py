"""What a price card must satisfy; each rule is broken by its smallest change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.card_checks import MAX_AHEAD_MS, check_card, check_priced
from coordinator.core.price_card import default_price_card, first_card, numbered
from protos.domain.errors import InvalidRequest
from protos.domain.price_card import CardState, PriceCard
from protos.domain.resources import Price, Tier

NOW = 1_790_000_000_000
DAY_MS = 86_400_000
CARD = first_card("ana", NOW)
DRAFT = numbered(replace(CARD, state=CardState.DRAFT), 2, 0)


def changed(of: str, at: Tier, **rates: object) -> PriceCard:
    lines = tuple(
        replace(line, **rates) if (line.size_class, line.tier) == (of, at) else line
        for line in DRAFT.lines
    )
    return replace(DRAFT, lines=lines)


def refusal(card: PriceCard, others=(CARD,), deployed=None) -> str:
    with pytest.raises(InvalidRequest) as raised:
        check_card(card, others, deployed or {}, NOW)
    return raised.value.message


def test_the_default_card_may_be_published_again():
    check_card(DRAFT, (CARD,), {"chat": "xs"}, NOW)


@pytest.mark.parametrize(
    ("card", "says"),
    [
        (changed("m", Tier.EDGE, prompt_nano_usd_per_token=0), "m edge: prompt is 0"),
        (changed("m", Tier.EDGE, completion_nano_usd_per_token=-1), "m edge: completion is -1"),
        (changed("m", Tier.EDGE, prompt_nano_usd_per_token=2_000_000), "at most 1000000"),
        (changed("m", Tier.CENTRAL, cached_nano_usd_per_token=151), "dearer than prompt"),
        (changed("s", Tier.EDGE, prompt_nano_usd_per_token=68), "13.3 % over central"),
        (changed("s", Tier.EDGE, prompt_nano_usd_per_token=76), "26.7 % over central"),
        (changed("s", Tier.REGIONAL, prompt_nano_usd_per_token=59), "not between central"),
        (changed("s", Tier.REGIONAL, prompt_nano_usd_per_token=73), "not between central"),
        (changed("s", Tier.EDGE, size_class="huge"), "'huge' is no size class"),
        (changed("s", Tier.EDGE, tier=Tier.CENTRAL), "s edge has no line"),
        (changed("s", Tier.EDGE, tier=Tier.CENTRAL), "s central has 2 lines"),
        (replace(DRAFT, lines=DRAFT.lines[1:]), "xs edge has no line"),
        (replace(DRAFT, lines=DRAFT.lines * 14), "210 lines are more than 200"),
    ],
)
def test_a_card_with_a_wrong_line_is_refused(card, says):
    assert says in refusal(card)


@pytest.mark.parametrize("percent", [115, 125])
def test_an_edge_premium_at_its_bounds_is_within_them(percent):
    check_card(changed("xl", Tier.EDGE, prompt_nano_usd_per_token=9 * percent), (), {}, NOW)


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"realtime_percent": 101}, "the realtime surcharge is 101 %"),
        ({"residency_percent": 400}, "the residency surcharge is 400 %"),
        ({"standard_percent": 20}, "surcharges rise from standard (20 %)"),
        ({"promise_percent": 49}, "the promise is 49 %"),
        ({"promise_percent": 101}, "the promise is 101 %"),
        ({"credit_percent": 101}, "the credit is 101 %"),
    ],
)
def test_a_card_with_wrong_terms_is_refused(terms, says):
    assert says in refusal(replace(DRAFT, terms=replace(DRAFT.terms, **terms)))


def test_a_card_of_the_past_is_refused():
    assert "its date has passed" in refusal(numbered(DRAFT, 2, NOW - 1))


def test_a_card_of_the_far_future_is_refused():
    assert "two years ahead" in refusal(numbered(DRAFT, 2, NOW + MAX_AHEAD_MS + 1))


def test_a_card_before_one_that_is_published_for_later_is_refused():
    later = numbered(CARD, 2, NOW + DAY_MS)
    told = refusal(numbered(DRAFT, 3, NOW + DAY_MS - 1), (CARD, later))
    assert "version 2, which takes effect later, is published already" in told
    assert "version 2, which takes effect later" in refusal(numbered(DRAFT, 3, 0), (CARD, later))
    check_card(numbered(DRAFT, 3, NOW + DAY_MS), (CARD, later), {}, NOW)  # in its place


def test_a_version_that_is_not_above_the_published_ones_is_refused():
    assert "version 1 is not above version 1" in refusal(numbered(DRAFT, 1, 0))


def test_a_card_that_leaves_a_deployed_model_without_a_price_is_refused():
    told = refusal(DRAFT, deployed={"chat": "xxl", "code": "xxl", "a": "xxl", "b": "xxl"})
    assert (
        "size class xxl would have no price at edge, regional, central, and a, b, chat and 1 more"
        " is deployed" in told
    )


def test_every_problem_is_named_at_once():
    card = replace(
        changed("m", Tier.EDGE, prompt_nano_usd_per_token=0),
        terms=replace(DRAFT.terms, credit_percent=101, valid_from_unix_ms=1),
    )
    told = refusal(card)
    assert told.startswith("the price card has 3 problems: ")
    for part in ("prompt is 0", "credit is 101", "date has passed"):
        assert part in told


def test_a_priced_model_may_be_deployed():
    check_priced("xs", "acme/m@1", default_price_card(), (DRAFT,))


@pytest.mark.parametrize(
    ("size_class", "in_force", "coming", "says"),
    [
        ("xxl", default_price_card(), (), "no line for size class xxl at edge, regional, central"),
        ("xs", (), (), "no line for size class xs at edge, regional, central"),
        ("xs", default_price_card()[1:], (), "no line for size class xs at edge"),
        ("", default_price_card(), (), "size class unknown"),
        (
            "xs",
            default_price_card(),
            (replace(DRAFT, lines=DRAFT.lines[1:]),),
            "version 2 of the price card has no line for size class xs at edge",
        ),
    ],
)
def test_an_unpriced_model_is_not_deployed(size_class, in_force, coming, says):
    with pytest.raises(InvalidRequest, match=says) as raised:
        check_priced(size_class, "acme/m@1", in_force, coming)
    assert "edgeforge price propose" in raised.value.hint


def test_a_class_beyond_the_standard_ones_is_held_to_the_same_premium():
    lines = tuple(
        Price("xxl", tier, rate, rate, rate, 2)
        for tier, rate in zip(Tier, (130, 105, 100), strict=True)
    )
    told = refusal(replace(DRAFT, lines=DRAFT.lines + lines), deployed={"chat": "xxl"})
    assert "xxl: prompt at the edge is 30.0 % over central" in told
