"""Rows of accounts and keys that are bound to zones, and what stands for them elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.zone_rows import row_for, row_outside, zones_of_row
from protos.domain.customers import Account, ApiKey, ForeignKey, UsageLimits
from protos.wire import encode_row

KEY = ApiKey("k1", b"d" * 32, "acme", ("chat",), 5, UsageLimits(0, 60, 0))


@pytest.mark.parametrize(
    ("own", "of_account", "zones"),
    [
        ((), (), None),
        (("BR",), (), {"BR"}),
        ((), ("BR", "EU"), {"BR", "EU"}),
        (("BR",), ("BR", "EU"), {"BR"}),
        (("US",), ("BR",), set()),
    ],
)
def test_a_key_is_bound_by_its_own_zones_and_those_of_its_account(own, of_account, zones):
    key = replace(KEY, zones=own, account_zones=of_account)
    assert zones_of_row(key) == zones
    for zone in ("BR", "EU", "US", ""):
        inside = zones is None or zone in zones
        found = row_for(key, zone)
        assert found == (key if inside else row_outside(key))


def test_outside_its_zones_a_key_says_no_account_no_scope_and_no_limit():
    outside = row_outside(replace(KEY, account_zones=("EU", "BR")))
    assert outside == ForeignKey("k1", KEY.digest, ("BR", "EU"), 5)
    assert b"acme" not in encode_row(outside)
    assert b"chat" not in encode_row(outside)


def test_outside_its_zones_nothing_is_said_of_an_account():
    bound = Account("acme", zones=("BR",))
    assert row_for(bound, "BR") == bound
    assert row_for(bound, "US") is None
    assert row_for(bound, "") is None
    assert row_for(Account("acme"), "") == Account("acme")
