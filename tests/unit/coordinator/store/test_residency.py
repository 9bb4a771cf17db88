"""Binding an account to zones changes every row that follows from it, or nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.rollout import RolloutPhase
from coordinator.store import accounts, deploys, keys, models, residency
from coordinator.store.deploys import Seen
from coordinator.store.zone_tables import zone_scope
from protos.domain.customers import Account, ForeignKey
from protos.domain.errors import Conflict, InvalidRequest, NotFound
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.resources import ResourceType
from protos.domain.routing_table import apply
from protos.wire import decode_row
from tests.support.stores import FILES, MODEL, api_key, deployment

CREDENTIALS = ResourceType.CREDENTIALS


@pytest.fixture
def store(store):
    for account_id in ("acme", "other"):
        store.write(accounts.create(Account(account_id)))
    store.write(models.register(MODEL, FILES))
    store.write(deploys.put_now(deployment(), [], "ana", "create", create_only=True))
    theirs = deployment("theirs", "other")
    store.write(deploys.put_now(theirs, [], "ana", "create", create_only=True))
    store.write(keys.create(api_key("k1"), 5))
    store.write(keys.create(api_key("k2", "other"), 5))
    return store


def bind(store, *zones, account="acme"):
    return store.write(residency.set_zones(account, zones))


def seen_in(store, zone):
    """Return what the agents of a zone know of the credentials."""
    rows = store.projection.table(CREDENTIALS, zone_scope(zone)).rows.values()
    decoded = [decode_row(CREDENTIALS, row) for row in rows]
    return with_changes(FleetView(), (), [one for one in decoded if one is not None])


def zones_of(store, name="chat"):
    return store.projection.view.deployments[name].residency_zones


def test_keys_and_deployments_of_the_account_follow_and_no_others(store):
    assert bind(store, "BR").zones == ("BR",)
    view = store.projection.view
    assert zones_of(store) == ("BR",)
    assert zones_of(store, "theirs") == ()
    assert view.keys[api_key("k1").digest].account_zones == ("BR",)
    assert view.keys[api_key("k2").digest].account_zones == ()
    assert store.reloaded().projection.view == view


def test_agents_outside_get_where_a_key_may_be_used_and_nothing_else_of_the_account(store):
    everywhere = seen_in(store, "US")
    assert set(everywhere.accounts) == {"acme", "other"}
    bind(store, "BR")
    inside, outside = seen_in(store, "BR"), seen_in(store, "US")
    assert set(inside.accounts) == {"acme", "other"}
    assert set(outside.accounts) == {"other"}
    digest = api_key("k1").digest
    assert digest in inside.keys
    assert digest not in outside.keys
    assert outside.foreign_keys[digest] == ForeignKey("k1", digest, ("BR",))
    assert not inside.foreign_keys
    table = store.projection.table(CREDENTIALS, zone_scope("US"))
    assert not any(b"acme" in row for row in table.rows.values())


@pytest.mark.parametrize("restarted", [False, True])
def test_an_agent_follows_by_deltas_in_each_zone_also_after_a_restart(store, restarted):
    zones = ("BR", "US", "")
    held = {zone: store.projection.table(CREDENTIALS, zone_scope(zone)) for zone in zones}
    bind(store, "BR")
    store.write(keys.create(api_key("k3"), 5))
    store.write(keys.revoke("k2"))
    bind(store, "BR", "US")
    projection = (store.reloaded() if restarted else store.memory).projection
    for zone in zones:
        wanted = projection.table(CREDENTIALS, zone_scope(zone))
        delta = projection.delta_since(CREDENTIALS, zone_scope(zone), held[zone].at.version)
        assert delta is not None
        assert apply(held[zone], delta) == wanted
        assert wanted.at == projection.table(CREDENTIALS, "").at


def test_widening_an_account_widens_no_deployment(store):
    bind(store, "BR")
    bind(store, "BR", "US")
    assert zones_of(store) == ("BR",)
    bind(store)
    assert zones_of(store) == ("BR",)
    assert store.projection.view.keys[api_key("k1").digest].account_zones == ()
    assert api_key("k1").digest in seen_in(store, "US").keys


def test_narrowing_keeps_what_is_left_of_a_deployments_own_zones(store):
    wide = replace(deployment(), residency_zones=("BR", "EU", "US"))
    store.write(deploys.put_now(wide, [], "ana", "set", create_only=False))
    bind(store, "BR", "JP", "US")
    assert zones_of(store) == ("BR", "US")


def test_an_account_is_not_bound_where_a_key_or_deployment_would_have_no_zone_left(store):
    store.write(keys.create(replace(api_key("k9"), zones=("US",)), 5))
    before = store.projection.view
    with pytest.raises(Conflict, match="key k9"):
        bind(store, "BR")
    assert store.projection.view == before
    store.write(keys.revoke("k9"))
    abroad = replace(deployment(), residency_zones=("US",))
    store.write(deploys.put_now(abroad, [], "ana", "set", create_only=False))
    with pytest.raises(Conflict, match="deployment 'chat'"):
        bind(store, "BR")
    assert store.projection.view.accounts["acme"].zones == ()


def test_new_keys_and_deployments_of_a_bound_account_are_within_its_zones(store):
    bind(store, "BR")
    with pytest.raises(InvalidRequest, match="bound to BR"):
        store.write(keys.create(replace(api_key("k4"), zones=("US",)), 5))
    store.write(keys.create(api_key("k4"), 5))
    assert api_key("k4").digest in seen_in(store, "US").foreign_keys
    new = deployment("second")
    abroad = replace(new, residency_zones=("US",))
    with pytest.raises(InvalidRequest, match="bound to BR"):
        store.write(deploys.put_now(abroad, [], "ana", "create", create_only=True))
    store.write(deploys.put_now(new, [], "ana", "create", create_only=True))
    assert zones_of(store, "second") == ("BR",)


def change(store):
    present = store.projection.view.deployments["chat"]
    following = replace(present, ttft_budget_ms=90)
    return store.write(deploys.begin(following, None, "ana", "update", seen=Seen(present.revision)))


def test_a_version_that_is_made_ready_is_narrowed_too_and_switched_to_so(store):
    change(store)
    bind(store, "BR")
    row, rollout = store.projection.view.deployments["chat"], store.facts.deploys["chat"].rollout
    assert row.next is not None
    assert row.next.residency_zones == rollout.other.residency_zones == ("BR",)
    assert store.write(deploys.switch("chat", rollout))
    assert zones_of(store) == ("BR",)


def test_the_version_before_is_kept_for_its_grace_within_the_zones_only(store):
    rollout = change(store)
    store.write(deploys.switch("chat", rollout))
    bind(store, "BR")
    settling = store.facts.deploys["chat"].rollout
    assert settling.phase is RolloutPhase.SETTLING
    assert settling.other.residency_zones == ("BR",)


def test_an_update_may_not_leave_the_zones_of_the_account(store):
    bind(store, "BR")
    present = store.projection.view.deployments["chat"]
    with pytest.raises(InvalidRequest, match="bound to BR"):
        store.write(
            deploys.begin(
                replace(present, residency_zones=("US",)),
                None,
                "ana",
                "update",
                seen=Seen(present.revision),
            )
        )


def test_an_unknown_account_is_not_bound(store):
    with pytest.raises(NotFound):
        bind(store, "BR", account="nobody")
