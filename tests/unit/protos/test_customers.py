"""Accounts and keys, and the rows that carry them."""

from __future__ import annotations

import pytest

from protos.domain.customers import Account, AccountState, ApiKey, UsageLimits
from protos.domain.resources import CardTerms, Price, ResourceType, Tier, resource_type, row_key
from protos.wire import decode_row, encode_row

LIMITS = UsageLimits(4, 60, 10_000)


@pytest.mark.parametrize(
    ("resource", "key"),
    [
        (Account("acme"), "account/acme"),
        (
            Account("acme", LIMITS, ("BR",), AccountState.SUSPENDED, funded=True),
            "account/acme",
        ),
        (ApiKey("k1", b"d" * 32, "acme", (), 0), "key/k1"),
        (
            ApiKey(
                "k1",
                b"d" * 32,
                "acme",
                ("chat",),
                7,
                LIMITS,
                ("BR",),
                ("/v1/embeddings",),
                ("10.0.0.0/8", "2001:db8::/32"),
            ),
            "key/k1",
        ),
        (Price("xs", Tier.EDGE, 24, 12, 48, 1), "price/xs/edge"),
        (CardTerms(3, 1_700_000_000_000, 50, 20, 0, 10, 95, 10), "terms"),
    ],
)
def test_rows_of_customers_and_the_card_survive_the_wire(resource, key):
    kind = resource_type(resource)
    assert kind in (ResourceType.CREDENTIALS, ResourceType.PRICES)
    assert decode_row(kind, encode_row(resource)) == resource
    assert row_key(resource) == key


def test_the_state_of_a_row_by_an_older_coordinator_is_active():
    account = decode_row(ResourceType.CREDENTIALS, b"\x12\x06\x0a\x04acme")
    assert account == Account("acme")
