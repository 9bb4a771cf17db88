"""Rows and messages of other versions: unknown ones are left out, absent fields have defaults."""

from __future__ import annotations

import hashlib

import pytest

from protos import wire
from protos.domain.customers import Account, AccountState, ApiKey
from protos.domain.resources import CardTerms, Price, ResourceType, Tier, resource_type, row_key
from protos.domain.routing_table import TableVersion, table_of
from protos.v1 import fleet_pb2, resources_pb2, usage_pb2

#: Field 900, length-delimited: no version has it.
UNKNOWN_KIND = b"\xa2\x38\x02hi"


@pytest.mark.parametrize("kind", list(ResourceType))
def test_a_row_of_a_kind_that_is_not_known_is_skipped_and_counts_in_the_digest(
    kind: ResourceType,
) -> None:
    assert wire.decode_row(kind, UNKNOWN_KIND) is None
    with_it = table_of(kind, TableVersion(1, 1), {"newer/thing": UNKNOWN_KIND})
    assert with_it.digest != table_of(kind, TableVersion(1, 1), {}).digest


def test_rows_of_the_version_before_accounts_open_everything_that_they_did() -> None:
    digest = hashlib.sha256(b"k").digest()
    key = resources_pb2.CredentialsRow(
        api_key=resources_pb2.ApiKey(id="k", digest=digest, account_id="acme")
    )
    account = resources_pb2.CredentialsRow(account=resources_pb2.Account(id="acme"))
    found = wire.decode_row(ResourceType.CREDENTIALS, key.SerializeToString())
    assert found == ApiKey("k", digest, "acme", (), 0)
    assert isinstance(found, ApiKey)
    assert (found.zones, found.endpoints, found.origins) == ((), (), ())
    known = wire.decode_row(ResourceType.CREDENTIALS, account.SerializeToString())
    assert known == Account("acme")
    assert isinstance(known, Account)
    assert (known.state, known.funded, known.zones) == (AccountState.ACTIVE, False, ())


def test_a_price_of_the_version_before_is_a_price_and_terms_are_nothing_it_would_read_as_one() -> (
    None
):
    price = Price("s", Tier.EDGE, 72, 36, 144, 1)
    assert wire.decode_row(ResourceType.PRICES, wire.encode_row(price)) == price
    terms = CardTerms(2, 0, 30, 10, 0, 15)
    assert (resource_type(terms), row_key(terms)) == (ResourceType.PRICES, "terms")
    # The version before reads field 1 of the row only: there is none in it.
    assert wire.encode_row(terms)[:1] == bytes([2 << 3 | 2])


def test_messages_without_the_new_fields_are_told_from_those_with_them() -> None:
    assert not fleet_pb2.Status(seq=1).HasField("usage")
    assert fleet_pb2.Status(usage=fleet_pb2.UsageState()).HasField("usage")
    assert usage_pb2.UsageAck(spool_id="s").pause_ms == 0
