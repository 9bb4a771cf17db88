"""What a request wants in an engine has one name."""

from __future__ import annotations

import pytest

from agent.core.cold_start import ColdPath, Wanted


@pytest.mark.parametrize(
    ("wanted", "name"),
    [(Wanted("acme/m@1"), "acme/m@1"), (Wanted("acme/m@1", "acme/fr@1"), "acme/fr@1")],
)
def test_it_is_named_by_its_adapter_if_it_has_one(wanted, name):
    assert wanted.name == name


def test_the_paths_are_in_order_of_their_cost():
    assert list(ColdPath) == [ColdPath.ADAPTER, ColdPath.SWAP, ColdPath.ENGINE]
