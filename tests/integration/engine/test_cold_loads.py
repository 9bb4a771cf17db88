"""Models and adapters come into engines when requests ask: once, and by the best path."""

from __future__ import annotations

import asyncio

import pytest

from agent.core.cold_start import ColdPath, ColdWay
from agent.engine.slot_room import SLOT_WAIT_MS
from protos.domain.errors import EngineFailed, InvalidRequest, NoReplica, NotFound, Overloaded
from protos.domain.resources import Hold, ReplicaState, Residency
from tests.support.scripted_host import (
    BASE,
    LINK_DOWN,
    OTHER,
    TUNED,
    ScriptedHost,
    a_model,
    an_adapter,
)
from tests.support.waiting import wait_until_async

FR, PT, DE, NL, ES = (f"acme/{one}@1" for one in ("fr", "pt", "de", "nl", "es"))


@pytest.fixture
def host(tmp_path) -> ScriptedHost:
    host = ScriptedHost(tmp_path)
    host.desire(a_model(BASE), a_model(TUNED), *(an_adapter(one) for one in (FR, PT, DE, NL, ES)))
    return host


async def test_a_first_request_starts_an_engine(host: ScriptedHost):
    assert host.replicas.endpoint_for(BASE) is None
    assert host.replicas.cold_path(BASE) == ColdWay(ColdPath.ENGINE, Residency.DISK)
    start = await host.replicas.make_resident(BASE)
    assert (start.path, start.residency, start.weights_bytes) == (
        ColdPath.ENGINE,
        Residency.DISK,
        1_000_000,
    )
    endpoint = host.replicas.endpoint_for(BASE)
    assert endpoint is not None
    assert endpoint.generation == 1
    assert host.replicas.cold_path(BASE) is None
    assert host.replicas.resident() == [BASE]


async def test_an_adapter_is_loaded_into_the_running_engine(host: ScriptedHost):
    await host.replicas.make_resident(BASE)
    assert host.replicas.cold_path(BASE, FR) == ColdWay(ColdPath.ADAPTER, Residency.DISK)
    assert host.replicas.endpoint_for(BASE, FR) is None
    start = await host.replicas.make_resident(BASE, FR)
    assert (start.path, start.weights_bytes) == (ColdPath.ADAPTER, 5_000)
    endpoint = host.replicas.endpoint_for(BASE, FR)
    base = host.replicas.endpoint_for(BASE)
    assert endpoint is not None
    assert base is not None
    assert endpoint.model.startswith(f"{FR}+")
    assert endpoint.generation == base.generation
    assert len(host.made) == 1
    assert host.replicas.resident() == [BASE, FR]


async def test_a_fine_tune_of_the_same_shape_is_swapped_in(host: ScriptedHost):
    await host.replicas.make_resident(BASE)
    assert host.replicas.cold_path(TUNED) == ColdWay(ColdPath.SWAP, Residency.DISK)
    start = await host.replicas.make_resident(TUNED)
    assert start.path is ColdPath.SWAP
    assert len(host.made) == 1
    endpoint = host.replicas.endpoint_for(TUNED)
    assert endpoint is not None
    assert endpoint.generation == 2
    assert host.replicas.endpoint_for(BASE) is None


async def test_an_adapter_of_a_cold_base_brings_its_base_first(host: ScriptedHost):
    await host.replicas.make_resident(TUNED)
    assert host.replicas.cold_path(BASE, FR) == ColdWay(ColdPath.SWAP, Residency.DISK)
    start = await host.replicas.make_resident(BASE, FR)
    assert start.path is ColdPath.SWAP
    assert host.replicas.endpoint_for(BASE, FR) is not None


async def test_an_adapter_that_left_its_slot_comes_back_from_memory_without_a_load(
    host: ScriptedHost,
):
    for one in (FR, PT, DE):
        await host.replicas.make_resident(BASE, one)
    assert host.replicas.endpoint_for(BASE, FR) is None
    assert host.replicas.cold_path(BASE, FR) == ColdWay(ColdPath.ADAPTER, Residency.HOST_MEMORY)
    host.engine.calls.clear()
    start = await host.replicas.make_resident(BASE, FR)
    assert start.residency is Residency.HOST_MEMORY
    assert host.engine.calls == []
    assert host.replicas.endpoint_for(BASE, FR) is not None


async def test_what_exceeds_the_engines_memory_is_unloaded_by_name(host: ScriptedHost):
    for one in (FR, PT, DE, NL, ES):
        await host.replicas.make_resident(BASE, one)
    (unloaded,) = (call for call in host.engine.calls if call.startswith("unload"))
    assert unloaded.startswith(f"unload {FR}+")
    assert len(host.engine.adapters) == 4
    assert FR not in host.objects.held()


async def test_an_adapter_in_flight_keeps_its_slot_and_others_wait(host: ScriptedHost):
    used = []
    for one in (FR, PT):
        await host.replicas.make_resident(BASE, one)
        endpoint = host.replicas.endpoint_for(BASE, one)
        assert endpoint is not None
        host.replicas.enter(endpoint)
        used.append(endpoint)
    way = host.replicas.cold_path(BASE, DE)
    assert way is not None
    assert (way.path, way.delay_ms) == (ColdPath.ADAPTER, SLOT_WAIT_MS)
    load = asyncio.ensure_future(host.replicas.make_resident(BASE, DE))
    await waits_for_a_slot(host, 1)
    way = host.replicas.cold_path(BASE, NL)
    assert way is not None
    assert way.delay_ms == 2 * SLOT_WAIT_MS
    host.now_ms += 300
    host.replicas.leave(used[0])
    start = await load
    assert (start.path, start.took_ms) == (ColdPath.ADAPTER, 0.0)
    assert host.replicas.endpoint_for(BASE, PT) is not None


async def test_an_adapter_is_not_taken_out_before_the_request_that_it_was_loaded_for(tmp_path):
    host = ScriptedHost(tmp_path, max_adapters=1)
    host.desire(a_model(BASE), an_adapter(FR), an_adapter(PT))
    await host.replicas.make_resident(BASE)
    loads = [asyncio.ensure_future(host.replicas.make_resident(BASE, one)) for one in (FR, PT)]
    await loads[0]
    await asyncio.sleep(0)
    assert host.replicas.endpoint_for(BASE, FR) is not None
    assert not loads[1].done()
    await loads[1]  # no request has come
    assert host.replicas.endpoint_for(BASE, PT) is not None


async def test_slots_in_use_for_too_long_refuse_the_load(host: ScriptedHost):
    for one in (FR, PT):
        await host.replicas.make_resident(BASE, one)
        host.replicas.enter(host.replicas.endpoint_for(BASE, one))
    load = asyncio.ensure_future(host.replicas.make_resident(BASE, DE))
    await waits_for_a_slot(host, 1)
    host.now_ms += 30_000
    with pytest.raises(Overloaded) as refused:
        await load
    assert refused.value.retryable
    assert not len(host.engines.inventory.slots[0].turns)


async def test_accounts_take_turns_for_a_slot(tmp_path):
    host = ScriptedHost(tmp_path, max_adapters=1)
    used, *rest = "many/used@1", "many/a@1", "many/b@1", "few/c@1"
    host.desire(a_model(BASE), *(an_adapter(one) for one in (used, *rest)))
    await host.replicas.make_resident(BASE, used)
    host.replicas.enter(host.replicas.endpoint_for(BASE, used))
    done: list[str] = []

    async def ask(name: str) -> None:
        await host.replicas.make_resident(BASE, name)
        done.append(name)
        host.replicas.enter(host.replicas.endpoint_for(BASE, name))

    loads = []
    for number, name in enumerate(rest, 1):
        loads.append(asyncio.ensure_future(ask(name)))
        await waits_for_a_slot(host, number)
    for number, name in enumerate((used, "many/a@1", "few/c@1"), 1):
        host.replicas.leave(host.replicas.endpoint_for(BASE, name))
        await wait_until_async(lambda number=number: len(done) == number, 2, "a turn")
    assert done == ["many/a@1", "few/c@1", "many/b@1"]
    await asyncio.gather(*loads)


async def waits_for_a_slot(host: ScriptedHost, count: int) -> None:
    turns = host.engines.inventory.slots[0].turns
    await wait_until_async(lambda: len(turns) == count, 2, f"{count} wait for a slot")


async def test_a_thousand_first_requests_cause_one_load_and_one_pull(host: ScriptedHost):
    await host.replicas.make_resident(BASE)
    host.objects.far.add(FR)
    host.objects.gate = asyncio.Event()
    asked = [asyncio.ensure_future(host.replicas.make_resident(BASE, FR)) for _ in range(1_000)]
    await asyncio.sleep(0)
    asked[0].cancel()
    host.objects.gate.set()
    starts = await asyncio.gather(*asked[1:])
    assert host.objects.pulls == [FR]
    assert len([call for call in host.engine.calls if call.startswith("load ")]) == 1
    assert {start.residency for start in starts} == {Residency.ORIGIN}
    (summary,) = (
        one for one in host.replicas.cold_starts.summaries() if one.path is ColdPath.ADAPTER
    )
    assert summary.count == 1


async def test_an_engine_that_answers_as_the_base_is_found_out_and_not_asked_again(
    host: ScriptedHost,
):
    host.objects.without_effect.add(FR)
    with pytest.raises(EngineFailed, match="no effect") as refused:
        await host.replicas.make_resident(BASE, FR)
    assert not refused.value.retryable
    assert refused.value.code == "adapter_without_effect"
    assert host.replicas.endpoint_for(BASE, FR) is None
    assert host.replicas.cold_path(BASE, FR) is None
    loads = len(host.engine.calls)
    with pytest.raises(NoReplica, match="no effect"):
        await host.replicas.make_resident(BASE, FR)
    assert len(host.engine.calls) == loads
    line = host.state_of(FR)
    assert line.state is ReplicaState.FAILED
    assert "no effect" in line.error
    assert host.replicas.endpoint_for(BASE) is not None


async def test_another_version_of_a_refused_adapter_is_tried(host: ScriptedHost):
    host.objects.without_effect.add(FR)
    with pytest.raises(EngineFailed):
        await host.replicas.make_resident(BASE, FR)
    host.objects.without_effect.clear()
    host.desire(a_model(BASE), an_adapter(FR, content=b"z"))
    await host.replicas.make_resident(BASE, FR)
    assert host.replicas.endpoint_for(BASE, FR) is not None


async def test_an_adapter_is_checked_against_its_base_once(host: ScriptedHost):
    await host.replicas.make_resident(BASE, FR)
    host.engine.die()
    await wait_until_async(lambda: host.replicas.endpoint_for(BASE) is not None, 2, "back")
    host.engine.calls.clear()
    await host.replicas.make_resident(BASE, FR)
    assert [call.partition(" ")[0] for call in host.engine.calls] == ["load"]


async def test_an_engine_that_starts_again_holds_no_adapter(host: ScriptedHost):
    await host.replicas.make_resident(BASE, FR)
    old = host.replicas.endpoint_for(BASE, FR)
    assert old is not None
    host.replicas.enter(old)
    host.engine.die()
    assert host.replicas.endpoint_for(BASE) is None
    await wait_until_async(lambda: host.replicas.endpoint_for(BASE) is not None, 2, "back")
    assert host.replicas.endpoint_for(BASE, FR) is None
    host.replicas.leave(old)
    await host.replicas.make_resident(BASE, FR)
    new = host.replicas.endpoint_for(BASE, FR)
    assert new is not None
    assert new.generation == old.generation + 1


@pytest.mark.parametrize(("model", "adapter"), [("acme/x@1", ""), (BASE, "acme/x@1"), (TUNED, FR)])
async def test_what_the_node_may_not_load_is_not_loaded(
    host: ScriptedHost, model: str, adapter: str
):
    assert host.replicas.cold_path(model, adapter) is None
    with pytest.raises((NotFound, NoReplica)):
        await host.replicas.make_resident(model, adapter)


async def test_a_pull_that_fails_fails_the_request_and_the_next_one_tries_again(
    host: ScriptedHost,
):
    host.objects.far.add(BASE)
    host.objects.pull_error = LINK_DOWN
    with pytest.raises(type(LINK_DOWN)):
        await host.replicas.make_resident(BASE)
    assert host.objects.held() == set()
    host.objects.pull_error = None
    start = await host.replicas.make_resident(BASE)
    assert start.residency is Residency.ORIGIN


async def test_a_runtime_that_does_not_fit_is_refused_and_reported(host: ScriptedHost):
    host.make_error = InvalidRequest("acme/fast@1 is for cuda, this node has cpu")
    with pytest.raises(InvalidRequest):
        await host.replicas.make_resident(BASE)
    assert host.replicas.cold_path(BASE) is None
    assert "is for cuda" in host.state_of(BASE).error
    assert host.state_of(BASE).state is ReplicaState.FAILED


async def test_an_engine_that_cannot_start_fails_the_request(host: ScriptedHost):
    host.ready_at_once = False
    task = asyncio.ensure_future(host.replicas.make_resident(BASE))
    await wait_until_async(lambda: bool(host.made), 2, "an engine is made")
    host.engine.give_up()
    with pytest.raises(EngineFailed, match="does not fit"):
        await task


async def test_a_model_stays_for_its_least_residence(tmp_path):
    host = ScriptedHost(tmp_path, residence_ms=5_000)
    host.desire(a_model(BASE), a_model(TUNED))
    await host.replicas.make_resident(BASE)
    host.now_ms += 2_000
    assert host.replicas.cold_path(TUNED) == ColdWay(ColdPath.SWAP, Residency.DISK, 3_000.0)
    swap = asyncio.ensure_future(host.replicas.make_resident(TUNED))
    await wait_until_async(lambda: TUNED in host.engines._waiting, 2, "it waits")
    host.now_ms += 1_000
    assert host.replicas.cold_path(TUNED) == ColdWay(ColdPath.SWAP, Residency.DISK, 2_000.0)
    assert host.replicas.endpoint_for(BASE) is not None
    host.now_ms += 2_000
    start = await swap
    assert (start.path, start.took_ms) == (ColdPath.SWAP, 0.0)
    assert host.replicas.cold_path(BASE) == ColdWay(ColdPath.SWAP, Residency.DISK, 5_000.0)


async def test_models_that_wait_for_one_engine_take_it_in_the_order_of_their_coming(tmp_path):
    host = ScriptedHost(tmp_path, residence_ms=5_000)
    host.desire(a_model(BASE), a_model(TUNED), a_model(OTHER))
    await host.replicas.make_resident(BASE)
    loads = []
    for number, name in enumerate((TUNED, OTHER), 1):
        loads.append(asyncio.ensure_future(host.replicas.make_resident(name)))
        count = number
        await wait_until_async(lambda count=count: len(host.engines._waiting) == count, 2, "waits")
    host.now_ms += 5_000
    await loads[0]
    assert not loads[1].done()
    assert host.replicas.endpoint_for(TUNED) is not None
    host.now_ms += 5_000
    await loads[1]
    assert host.replicas.endpoint_for(OTHER) is not None


async def test_a_wait_beyond_the_limit_is_refused_at_once(tmp_path):
    host = ScriptedHost(tmp_path, residence_ms=60_000)
    host.desire(a_model(BASE), a_model(TUNED))
    await host.replicas.make_resident(BASE)
    assert host.replicas.cold_path(TUNED) is None
    with pytest.raises(NoReplica) as refused:
        await host.replicas.make_resident(TUNED)
    assert refused.value.retryable


async def test_an_engine_that_starts_is_said_with_what_is_left_of_it(host: ScriptedHost):
    host.ready_at_once = False
    load = asyncio.ensure_future(host.replicas.make_resident(BASE))
    await wait_until_async(lambda: bool(host.made), 2, "an engine is made")
    host.now_ms += 1_500
    assert host.replicas.cold_path(BASE) == ColdWay(ColdPath.ENGINE, Residency.DISK, -1_500.0)
    assert host.replicas.cold_path(BASE, FR) == ColdWay(ColdPath.ENGINE, Residency.DISK, -1_500.0)
    assert host.replicas.cold_path(TUNED).delay_ms > 0  # no start is ended for another model
    host.engine.give_up()
    with pytest.raises(EngineFailed):
        await load


async def test_two_models_asked_for_at_once_do_not_take_each_others_engine(tmp_path):
    host = ScriptedHost(tmp_path, max_engines=2)
    host.desire(a_model(BASE), a_model(TUNED, key=b""), a_model(OTHER, key=b""))
    starts = await asyncio.gather(
        host.replicas.make_resident(BASE), host.replicas.make_resident(OTHER)
    )
    assert [start.path for start in starts] == [ColdPath.ENGINE, ColdPath.ENGINE]
    assert len({host.replicas.endpoint_for(one).uds_path for one in (BASE, OTHER)}) == 2


async def test_what_could_be_loaded_is_named_for_probes(host: ScriptedHost):
    await host.replicas.make_resident(BASE)
    loadable = host.replicas.loadable()
    assert loadable[TUNED] == ColdWay(ColdPath.SWAP, Residency.DISK)
    assert loadable[FR] == ColdWay(ColdPath.ADAPTER, Residency.DISK)
    assert BASE not in loadable


async def test_engines_keep_on_disk_what_they_read(host: ScriptedHost):
    await host.replicas.make_resident(BASE, FR)
    assert host.objects.held() == {BASE, FR}
    await host.replicas.make_resident(TUNED)
    assert host.objects.held() == {TUNED}
    await host.engines.close()
    assert host.objects.held() == set()


async def test_cold_ones_are_reported_with_where_they_are(host: ScriptedHost):
    host.objects.far.add(PT)
    await host.replicas.make_resident(BASE, FR)
    assert host.state_of(BASE).state is ReplicaState.READY
    assert host.state_of(FR).state is ReplicaState.READY
    assert (host.state_of(TUNED).state, host.state_of(TUNED).residency) == (
        ReplicaState.COLD,
        Residency.DISK,
    )
    assert host.state_of(PT).residency is Residency.ORIGIN


async def test_hot_ones_come_by_themselves(tmp_path):
    host = ScriptedHost(tmp_path)
    host.objects.far |= {BASE, FR}
    host.desire(a_model(BASE, hold=Hold.HOT), an_adapter(FR, hold=Hold.HOT))
    running = asyncio.ensure_future(host.replicas.run())
    try:
        await wait_until_async(
            lambda: host.replicas.endpoint_for(BASE, FR) is not None, 5, "both are resident"
        )
        host.desire()
        await wait_until_async(lambda: not host.engines.inventory.slots, 5, "the engine ends")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert host.objects.held() == set()
