"""The store on disk: restarts, order, callbacks, one owner."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace

import pytest

from coordinator.store import pops
from coordinator.store.commits import Seat, run_transaction
from coordinator.store.records import AuditNote
from coordinator.store.store import Store
from protos.domain.errors import ConfigInvalid, Conflict, InvalidRequest, NotFound, StoreUnavailable
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
    await store.put_pop(GRU)
    await store.put_pop(IAD)
    for node_id, pop_id in (("gru-1", "GRU"), ("iad-1", "IAD")):
        await enrol(store, node_id, pop_id)
        await store.register_node(registration(node_id))
    await store.create_account("acme", "salt")
    await store.put_model(MODEL, FILES)
    await store.put_deployment(deployment(), ["iad-1"], create_only=True)
    await store.put_replicas([replica("iad-1")], [])
    await store.put_key(api_key("k1"), 1)
    await store.put_key(api_key("k2"), 2)
    await store.revoke_key("k1")
    await store.put_prices([Price("xs", Tier.EDGE, 10, 2, 30, 1)])


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


async def test_a_restart_changes_nothing(store, database, clock):
    await fill(store)
    before = picture(store)
    await store.close()
    again = await Store.open(database, now_unix_ms=clock, must_exist=True)
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
    await store.put_pop(GRU)
    assert store.view().pops == {"GRU": GRU}
    assert heard == [(ResourceType.TOPOLOGY, "", store.table(ResourceType.TOPOLOGY).at)]
    await store.put_pop(GRU)
    assert len(heard) == 1


async def test_a_failing_callback_affects_no_other(store, caplog):
    heard = []
    store.on_change(lambda kind, scope: 1 / 0)
    store.on_change(lambda kind, scope: heard.append(kind))
    await store.put_pop(GRU)
    assert heard == [ResourceType.TOPOLOGY]
    assert "change callback failed" in caplog.text


async def test_concurrent_writes_are_published_in_commit_order(store):
    versions = []
    store.on_change(lambda kind, scope: versions.append(store.table(kind, scope).at.version))
    pops = [replace(GRU, id=f"P{number:03}") for number in range(200)]
    await asyncio.gather(*(store.put_pop(pop) for pop in pops))
    assert versions == list(range(1, 201))
    assert set(store.view().pops) == {pop.id for pop in pops}


async def test_a_write_whose_caller_was_cancelled_is_still_published(store):
    writing = asyncio.ensure_future(store.put_pop(GRU))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await store.put_pop(IAD)
    assert set(store.view().pops) == {"GRU", "IAD"}


async def test_deltas_lead_to_the_present_table(store):
    await store.put_pop(GRU)
    old = store.table(ResourceType.TOPOLOGY)
    await fill(store)
    delta = await store.delta_since(ResourceType.TOPOLOGY, "", old.at.version)
    assert apply(old, delta) == store.table(ResourceType.TOPOLOGY)
    assert await store.delta_since(ResourceType.TOPOLOGY, "", 10_000) is None


async def test_compaction_keeps_young_deltas_and_says_when_it_cannot(store, clock, database):
    await fill(store)
    old = store.table(ResourceType.TOPOLOGY)
    clock.unix_ms += DAY_MS
    await store.set_node_health({"gru-1": NodeHealth.SUSPECT})
    young = store.table(ResourceType.TOPOLOGY)
    await store.set_node_health({"gru-1": NodeHealth.DEAD})
    dropped = await store.compact(older_than_unix_ms=START_UNIX_MS + 1)
    assert dropped > 10
    prices = store.table(ResourceType.PRICES)

    async def check(store):
        assert await store.delta_since(ResourceType.TOPOLOGY, "", 1) is None
        from_old = await store.delta_since(ResourceType.TOPOLOGY, "", old.at.version)
        assert apply(old, from_old) == store.table(ResourceType.TOPOLOGY)
        from_young = await store.delta_since(ResourceType.TOPOLOGY, "", young.at.version)
        assert apply(young, from_young) == store.table(ResourceType.TOPOLOGY)
        # A table that has not changed since is not forgotten with its changes.
        nothing = await store.delta_since(ResourceType.PRICES, "", prices.at.version)
        assert apply(prices, nothing) == prices

    await check(store)
    await store.close()
    again = await Store.open(database, now_unix_ms=clock)
    await check(again)
    assert await again.compact(older_than_unix_ms=START_UNIX_MS + 1) == 0
    await again.close()


async def test_reports_of_a_node_that_is_not_enrolled_are_refused(store):
    with pytest.raises(NotFound, match="no node 'gru-1'"):
        await store.register_node(registration("gru-1"))


async def test_an_audit_note_comes_with_its_change_only(store):
    note = AuditNote("operator/ana", "deployment.remove", "deployment/none")
    with pytest.raises(NotFound):
        await store.remove_deployment("none", note=note)
    assert await audited(store, 10) == []
    await store.put_pop(GRU, note=AuditNote("operator/ana", "pop.create", "pop/GRU"))
    (entry,) = await audited(store, 10)
    assert (entry.note.action, entry.at_unix_ms) == ("pop.create", START_UNIX_MS)


async def test_a_second_owner_is_refused_until_the_first_closes(store, database, clock):
    with pytest.raises(Conflict, match="another coordinator"):
        await Store.open(database, now_unix_ms=clock)
    await store.close()
    again = await Store.open(database, now_unix_ms=clock)
    await again.close()


async def test_a_writer_that_was_replaced_is_refused_and_says_so(store, database, caplog):
    await store.put_pop(GRU)
    with closing(sqlite3.connect(database)) as other, other:
        other.execute("UPDATE log SET writer_epoch = writer_epoch + 1")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="taken over") as caught:
            await store.put_pop(IAD)
        assert not caught.value.retryable
        with pytest.raises(StoreUnavailable, match="taken over"):
            await store.audit("operator/ana", "looked", "fleet", "")
    assert not store.available
    assert set(store.view().pops) == {"GRU"}
    assert await audited(store, 10) == []
    assert caplog.text.count("another coordinator writes to the database") == 1


async def test_what_another_writer_committed_is_taken_into_memory_at_the_next_commit(
    store, database, clock
):
    """A writer that is replaced may have committed after its successor read the tables."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        (epoch,) = other.execute("SELECT writer_epoch FROM log").fetchone()
        run_transaction(other, Seat(epoch, 0), clock(), pops.put(GRU), None)
    await store.put_pop(IAD)
    assert set(store.view().pops) == {"GRU", "IAD"}
    assert store.table(ResourceType.TOPOLOGY).at.version == 2


async def test_a_rolled_back_write_gives_its_numbers_back(store):
    def fails(tx):
        pops.put(GRU)(tx)
        pops.put(IAD)(tx)
        raise InvalidRequest("midway")

    with pytest.raises(InvalidRequest):
        await store._runtime.write(fails)
    await store.put_pop(IAD)
    assert store.table(ResourceType.TOPOLOGY).at.version == 1


async def test_a_missing_database_is_not_created(tmp_path, clock):
    with pytest.raises(NotFound, match="no database"):
        await Store.open(tmp_path / "none.db", now_unix_ms=clock, must_exist=True)
    assert list(tmp_path.iterdir()) == []


async def test_a_newer_schema_is_refused_and_its_file_released(store, database, clock):
    await store.close()
    with closing(sqlite3.connect(database)) as other, other:
        other.execute("INSERT INTO migrations VALUES ('9999_future', 1)")
    for _ in range(2):  # the second time shows that the first released the file
        with pytest.raises(ConfigInvalid, match="newer version"):
            await Store.open(database, now_unix_ms=clock)


def foreign_database(path):
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE migrations (name TEXT)")


@pytest.mark.parametrize("must_exist", [True, False])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"not a database at all" * 100), "is not a database"),
        (foreign_database, "of another program"),
    ],
)
async def test_an_empty_or_foreign_database_starts_no_new_fleet_and_is_left_as_it_is(
    database, clock, make, says, must_exist
):
    make(database)
    before = database.read_bytes()
    for _ in range(2):  # the second time shows that the first released the file
        with pytest.raises(ConfigInvalid, match=says) as caught:
            await Store.open(database, now_unix_ms=clock, must_exist=must_exist)
        assert "restore BACKUP" in caught.value.hint
    assert database.read_bytes() == before


async def test_a_damaged_database_is_said_to_be_damaged(store, database, clock):
    await fill(store)
    await store.close()
    pages = bytearray(database.read_bytes())
    pages[4_096:] = b"\xff" * (len(pages) - 4_096)
    database.write_bytes(pages)
    with pytest.raises(StoreUnavailable, match="damaged") as caught:
        await Store.open(database, now_unix_ms=clock)
    assert "restore" in caught.value.hint


async def test_only_its_owner_can_read_the_files(store, database):
    await store.put_pop(GRU)
    files = [path for path in database.parent.iterdir() if path.name.startswith(database.name)]
    assert {path.name.removeprefix(database.name) for path in files} == {
        "",
        "-wal",
        "-shm",
        ".lock",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


async def test_nothing_is_accepted_after_close(store):
    await store.close()
    with pytest.raises(StoreUnavailable, match="stopping"):
        await store.put_pop(GRU)
    await store.close()


async def test_queued_writes_are_finished_on_close(store, database, clock):
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(store.put_pop(replace(GRU, id=f"P{number:03}")))
        await asyncio.sleep(0)
        await store.close()
    again = await Store.open(database, now_unix_ms=clock)
    assert len(again.view().pops) == 50
    await again.close()


async def test_an_error_in_a_write_is_raised_to_its_caller(store):
    with pytest.raises(InvalidRequest):
        await store._runtime.write(lambda tx: _raise(InvalidRequest("no")))
    with pytest.raises(sqlite3.OperationalError, match="syntax"):
        await store._runtime.write(lambda tx: tx.query("SELEKT"))
    assert store.available
    await store.put_pop(GRU)


def _raise(error):
    raise error
