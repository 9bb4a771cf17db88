"""Accounts, keys, prices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.store import accounts, deployments, keys, models, prices
from coordinator.store.facts import KeyCreated
from protos.domain.customers import Account
from protos.domain.errors import Conflict, NotFound
from protos.domain.resources import Price, ResourceType, Tier
from tests.support.stores import FILES, MODEL, api_key, deployment


@pytest.fixture
def store(store):
    for account_id in ("acme", "other"):
        store.write(accounts.create(Account(account_id)))
    store.write(models.register(MODEL, FILES))
    store.write(deployments.put(deployment(), [], create_only=True))
    return store


def put(store, key):
    store.write(keys.create(key, 5))


def test_an_account_keeps_its_salt(store):
    with pytest.raises(Conflict, match="exists"):
        store.write(accounts.create(Account("acme")))
    assert store.projection.view.accounts["acme"] == Account("acme")


def test_a_key_is_found_by_its_digest(store):
    key = api_key("k1", deployments=("chat",))
    put(store, key)
    assert store.projection.view.keys[key.digest] == key
    assert store.facts.keys_created == {"k1": KeyCreated("k1", 5)}


@pytest.mark.parametrize(
    "key",
    [
        api_key("k1", account_id="nobody"),
        api_key("k1", deployments=("none",)),
        api_key("k1", account_id="other", deployments=("chat",)),
    ],
)
def test_a_key_may_name_only_deployments_of_its_account(store, key):
    with pytest.raises(NotFound) as caught:
        put(store, key)
    assert caught.value.hint
    assert not store.projection.view.keys


def test_a_revoked_key_is_removed_from_table_view_and_cache(store):
    put(store, api_key("k1"))
    store.write(keys.revoke("k1"))
    assert "key/k1" not in store.projection.table(ResourceType.CREDENTIALS, "").rows
    assert not store.projection.view.keys
    assert not store.facts.keys_created
    with pytest.raises(NotFound):
        store.write(keys.revoke("k1"))


def test_prices_are_replaced_by_size_class_and_tier(store):
    price = Price("xs", Tier.EDGE, 10, 2, 30, 1)
    store.write(prices.put([price, replace(price, tier=Tier.CENTRAL)]))
    store.write(prices.put([replace(price, card_version=2)]))
    cards = {key: one.card_version for key, one in store.projection.view.prices.items()}
    assert cards == {("xs", Tier.EDGE): 2, ("xs", Tier.CENTRAL): 1}
