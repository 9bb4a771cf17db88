"""The store on disk: restarts, order, callbacks, one owner."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace

import pytest

from coordinator.store import accounts, deployments, keys, models, nodes, pops, prices, replicas
from coordinator.store.records import AuditNote
from coordinator.store.store import Store
from protos.domain.customers import Account
from protos.domain.errors import InvalidRequest, NotFound, StoreUnavailable
from protos.domain.resources import NodeHealth, Price, ResourceType, Tier
from protos.domain.routing_table import apply
from tests.support.stores import (
    DAY_MS,
    FILES,
    GRU,
    IAD,
    MODEL,
    START_UNIX_MS,
    api_key,
    audited,
    deployment,
    enrol,
    registration,
    replica,
)


async def fill(store: Store) -> None:
    await store.write(pops.put(GRU))
    await store.write(pops.put(IAD))
    for node_id, pop_id in (("gru-1", "GRU"), ("iad-1", "IAD")):
        await enrol(store, node_id, pop_id)
        await store.write(nodes.register(registration(node_id)))
    await store.write(accounts.create(Account("acme")))
    await store.write(models.register(MODEL, FILES))
    await store.write(deployments.put(deployment(), ["iad-1"], create_only=True))
    await store.write(replicas.report([replica("iad-1")], []))
    await store.write(keys.create(api_key("k1"), 1))
    await store.write(keys.create(api_key("k2"), 2))
    await store.write(keys.revoke("k1"))
    await store.write(prices.put([Price("xs", Tier.EDGE, 10, 2, 30, 1)]))


def picture(store: Store):
    tables = [store.table(one) for one in ResourceType]
    tables.append(store.table(ResourceType.DESIRED, "iad-1"))
    facts = (
        dict(store.node_records()),
        dict(store.placements()),
        store.manifest(MODEL.name),
        tuple(store.keys_info()),
    )
    return tables, store.view(), facts, store.epoch


async def test_a_restart_changes_nothing(store, open_store):
    await fill(store)
    before = picture(store)
    await store.close()
    again = await open_store(must_exist=True)
    assert picture(again) == before
    assert again.view().nodes["iad-1"].health is NodeHealth.READY
    assert again.engine_kind("iad-1") == "vllm"
    assert again.engine_kind("nobody") == ""
    assert again.placements() == {"chat": ("iad-1",)}
    assert [one.key.id for one in again.keys_info()] == ["k2"]
    await again.close()


async def test_a_write_is_published_before_its_await_returns(store):
    heard = []
    store.on_change(lambda kind, scope: heard.append((kind, scope, store.table(kind, scope).at)))
    await store.write(pops.put(GRU))
    assert store.view().pops == {"GRU": GRU}
    assert heard == [(ResourceType.TOPOLOGY, "", store.table(ResourceType.TOPOLOGY).at)]
    await store.write(pops.put(GRU))
    assert len(heard) == 1


async def test_a_failing_callback_affects_no_other(store, caplog):
    heard = []
    store.on_change(lambda kind, scope: 1 / 0)
    store.on_change(lambda kind, scope: heard.append(kind))
    await store.write(pops.put(GRU))
    assert heard == [ResourceType.TOPOLOGY]
    assert "change callback failed" in caplog.text


async def test_concurrent_writes_are_published_in_commit_order(store):
    versions = []
    store.on_change(lambda kind, scope: versions.append(store.table(kind, scope).at.version))
    wanted = [replace(GRU, id=f"P{number:03}") for number in range(200)]
    await asyncio.gather(*(store.write(pops.put(pop)) for pop in wanted))
    assert versions == list(range(1, 201))
    assert set(store.view().pops) == {pop.id for pop in wanted}


async def test_a_write_whose_caller_was_cancelled_is_still_published(store):
    writing = asyncio.ensure_future(store.write(pops.put(GRU)))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await store.write(pops.put(IAD))
    assert set(store.view().pops) == {"GRU", "IAD"}


async def test_deltas_lead_to_the_present_table(store):
    await store.write(pops.put(GRU))
    old = store.table(ResourceType.TOPOLOGY)
    await fill(store)
    delta = await store.delta_since(ResourceType.TOPOLOGY, "", old.at.version)
    assert apply(old, delta) == store.table(ResourceType.TOPOLOGY)
    assert await store.delta_since(ResourceType.TOPOLOGY, "", 10_000) is None


async def test_compaction_keeps_young_deltas_and_says_when_it_cannot(store, clock, open_store):
    await fill(store)
    old = store.table(ResourceType.TOPOLOGY)
    clock.unix_ms += DAY_MS
    await store.write(nodes.set_health({"gru-1": NodeHealth.SUSPECT}))
    young = store.table(ResourceType.TOPOLOGY)
    await store.write(nodes.set_health({"gru-1": NodeHealth.DEAD}))
    dropped = await store.compact(older_than_unix_ms=START_UNIX_MS + 1)
    assert dropped > 10
    card = store.table(ResourceType.PRICES)

    async def check(store):
        assert await store.delta_since(ResourceType.TOPOLOGY, "", 1) is None
        from_old = await store.delta_since(ResourceType.TOPOLOGY, "", old.at.version)
        assert apply(old, from_old) == store.table(ResourceType.TOPOLOGY)
        from_young = await store.delta_since(ResourceType.TOPOLOGY, "", young.at.version)
        assert apply(young, from_young) == store.table(ResourceType.TOPOLOGY)
        # A table that has not changed since is not forgotten with its changes.
        nothing = await store.delta_since(ResourceType.PRICES, "", card.at.version)
        assert apply(card, nothing) == card

    await check(store)
    await store.close()
    again = await open_store()
    await check(again)
    assert await again.compact(older_than_unix_ms=START_UNIX_MS + 1) == 0
    await again.close()


async def test_reports_of_a_node_that_is_not_enrolled_are_refused(store):
    with pytest.raises(NotFound, match="no node 'gru-1'"):
        await store.write(nodes.register(registration("gru-1")))


async def test_a_removed_node_was_enrolled_and_one_that_never_was_is_not(store, open_store):
    await fill(store)
    await store.write(nodes.remove("gru-1"))
    await store.close()
    again = await open_store()
    assert [again.was_enrolled(name) for name in ("iad-1", "gru-1", "gru-9")] == [True, True, False]
    assert again.node_record("gru-1") is None
    await again.close()


async def test_an_audit_note_comes_with_its_change_only(store):
    note = AuditNote("operator/ana", "deployment.remove", "deployment/none")
    with pytest.raises(NotFound):
        await store.write(deployments.remove("none"), note)
    assert await audited(store, 10) == []
    await store.write(pops.put(GRU), AuditNote("operator/ana", "pop.create", "pop/GRU"))
    (entry,) = await audited(store, 10)
    assert (entry.note.action, entry.at_unix_ms) == ("pop.create", START_UNIX_MS)


async def test_a_rolled_back_write_gives_its_numbers_back(store):
    def fails(tx):
        pops.put(GRU)(tx)
        pops.put(IAD)(tx)
        raise InvalidRequest("midway")

    with pytest.raises(InvalidRequest):
        await store.write(fails)
    await store.write(pops.put(IAD))
    assert store.table(ResourceType.TOPOLOGY).at.version == 1


async def test_nothing_is_accepted_after_close(store):
    await store.close()
    with pytest.raises(StoreUnavailable, match="stopping"):
        await store.write(pops.put(GRU))
    await store.close()


async def test_queued_writes_are_finished_on_close(store, open_store):
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(store.write(pops.put(replace(GRU, id=f"P{number:03}"))))
        await asyncio.sleep(0)
        await store.close()
    again = await open_store()
    assert len(again.view().pops) == 50
    await again.close()


async def test_an_error_in_a_write_is_raised_to_its_caller(store):
    with pytest.raises(InvalidRequest):
        await store.write(lambda tx: _raise(InvalidRequest("no")))
    with pytest.raises(sqlite3.OperationalError, match="syntax"):
        await store.write(lambda tx: tx.query("SELEKT"))
    assert store.available
    await store.write(pops.put(GRU))


def _raise(error):
    raise error
