"""A request can only narrow the zones."""

from __future__ import annotations

import pytest

from protos.domain.residency import allowed_zones


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
