"""A request narrows, never widens."""

from __future__ import annotations

import pytest

from protos.domain.errors import InvalidRequest
from protos.domain.residency import MAX_ZONES, allowed_zones, parse_zones


@pytest.mark.parametrize(
    ("deployment", "narrowed", "allowed"),
    [
        ((), None, None),
        (("BR",), None, {"BR"}),
        ((), {"BR"}, {"BR"}),
        (("BR", "EU"), {"BR"}, {"BR"}),
        (("BR",), {"BR", "US"}, {"BR"}),
        (("BR",), {"US"}, set()),
        ((), set(), set()),
    ],
)
def test_what_both_allow(deployment, narrowed, allowed):
    narrowed = None if narrowed is None else frozenset(narrowed)
    assert allowed_zones(deployment, narrowed) == allowed


def test_header_names_zones():
    assert parse_zones("BR") == {"BR"}
    assert parse_zones(" BR , EU,BR") == {"BR", "EU"}


@pytest.mark.parametrize("text", ["", ",", "br", "BRA", "BR,", "BR EU", "B\u00c9", "*"])
def test_header_that_names_no_zone_is_refused(text):
    with pytest.raises(InvalidRequest):
        parse_zones(text)


def test_header_is_limited():
    names = [chr(65 + index // 26) + chr(65 + index % 26) for index in range(MAX_ZONES + 1)]
    assert len(parse_zones(",".join(names[:MAX_ZONES]))) == MAX_ZONES
    with pytest.raises(InvalidRequest, match="more than 32"):
        parse_zones(",".join(names))
