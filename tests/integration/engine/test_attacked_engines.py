"""Interleavings that leave an adapter refused, an engine twice in a place, or answers cut."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.cold_start import ColdPath, ColdWay
from agent.loads import Loads
from protos.domain.errors import EdgeForgeError, EngineFailed, NoReplica, Overloaded
from protos.domain.resources import Hold, Residency
from tests.support.scripted_host import BASE, OTHER, TUNED, ScriptedHost, a_model, an_adapter
from tests.support.waiting import wait_until_async

FR, PT, DE = (f"acme/{one}@1" for one in ("fr", "pt", "de"))


@pytest.fixture
def host(tmp_path: Path) -> ScriptedHost:
    host = ScriptedHost(tmp_path)
    host.desire(a_model(BASE), a_model(TUNED), *(an_adapter(one) for one in (FR, PT, DE)))
    return host


async def load(host: ScriptedHost, model: str, adapter: str = "") -> None:
    await host.replicas.make_resident(model, adapter)
    assert host.replicas.endpoint_for(model, adapter) is not None


@pytest.mark.parametrize("step", ["load", "take"])
async def test_an_adapter_whose_load_failed_for_a_moment_is_loaded_again(
    host: ScriptedHost, step: str
) -> None:
    await load(host, BASE)
    host.engine.fail[step] = "busy"
    with pytest.raises(EngineFailed, match="busy"):
        await host.replicas.make_resident(BASE, FR)
    await load(host, BASE, FR)
    assert FR not in host.engines.failures.refused


async def test_an_adapter_that_the_engine_kept_though_its_load_was_cut_is_loaded_again(
    host: ScriptedHost,
) -> None:
    await load(host, BASE)
    (served,) = (name for one, name in host.engines.inventory.served.items() if one == FR)
    host.engine.fail["load"] = "no answer within 60 s"
    with pytest.raises(EngineFailed):
        await host.replicas.make_resident(BASE, FR)
    host.engine.adapters[served] = host.objects.path_of(an_adapter(FR))  # it has ended by now
    await load(host, BASE, FR)


async def test_an_adapter_that_could_not_be_unloaded_is_loaded_again_when_it_is_asked_for(
    host: ScriptedHost,
) -> None:
    await load(host, BASE)
    slot = host.engines.inventory.slots[0]
    slot.slots.max_known = 2
    await load(host, BASE, FR)
    await load(host, BASE, PT)
    host.engine.fail["unload"] = "no answer within 60 s"
    with pytest.raises(EngineFailed):
        await host.replicas.make_resident(BASE, DE)  # in the place of FR, which stays known there
    await load(host, BASE, FR)
    assert host.engines.failures.refused == {}


async def test_a_swap_takes_out_adapters_that_only_the_engine_still_knows(
    host: ScriptedHost,
) -> None:
    await load(host, BASE)
    host.engine.fail["take"] = "busy"
    with pytest.raises(EngineFailed):
        await host.replicas.make_resident(BASE, FR)
    assert len(host.engine.adapters) == 1
    await load(host, TUNED)
    assert host.engine.adapters == {}
    await load(host, BASE, FR)


async def test_nothing_is_started_in_the_place_of_an_engine_that_is_still_ending(
    tmp_path: Path,
) -> None:
    host = ScriptedHost(tmp_path, max_engines=1)
    host.desire(a_model(BASE), a_model(OTHER, key=b"o" * 32), a_model(TUNED, key=b"t" * 32))
    await load(host, BASE)
    first, gone = host.engine, asyncio.Event()
    stop = first.stop

    async def slow_stop() -> None:
        await gone.wait()
        await stop()

    first.stop = slow_stop
    async with asyncio.TaskGroup() as group:
        other = group.create_task(host.replicas.make_resident(OTHER))
        await wait_until_async(lambda: not host.engines.inventory.slots, 10, "the end to begin")
        way = host.replicas.cold_path(TUNED)
        assert way is not None
        assert way.delay_ms > 0.0
        tuned = group.create_task(host.replicas.make_resident(TUNED))
        await wait_until_async(lambda: TUNED in host.engines.loading(), 10, "the next to wait")
        assert [one.model for one in host.made] == [BASE]
        gone.set()
    assert other.result().path is tuned.result().path is ColdPath.ENGINE
    assert [one.model for one in host.made] == [BASE, OTHER, TUNED]
    assert host.replicas.resident() == [TUNED]


async def test_an_order_that_is_withdrawn_lets_the_requests_at_its_engine_end(
    host: ScriptedHost,
) -> None:
    await load(host, BASE)
    endpoint = host.replicas.endpoint_for(BASE)
    assert endpoint is not None
    host.replicas.enter(endpoint)
    running = asyncio.create_task(host.replicas.run())
    try:
        host.desire()
        assert host.replicas.endpoint_for(BASE) is None
        assert 0 in host.engines.inventory.slots
        host.replicas.leave(endpoint)
        await wait_until_async(lambda: not host.engines.inventory.slots, 10, "its end")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_an_order_that_is_given_again_keeps_the_engine_that_was_to_end(
    host: ScriptedHost,
) -> None:
    await load(host, BASE)
    endpoint = host.replicas.endpoint_for(BASE)
    assert endpoint is not None
    host.replicas.enter(endpoint)
    running = asyncio.create_task(host.replicas.run())
    try:
        host.desire()
        host.desire(a_model(BASE, hold=Hold.HOT))
        host.replicas.leave(endpoint)
        await wait_until_async(lambda: not host.replicas._retiring, 10, "it to be kept")
        assert host.replicas.endpoint_for(BASE) == endpoint
        assert len(host.made) == 1
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_requests_that_are_not_ended_in_time_do_not_hold_a_withdrawn_engine_for_ever(
    host: ScriptedHost,
) -> None:
    await load(host, BASE)
    endpoint = host.replicas.endpoint_for(BASE)
    assert endpoint is not None
    host.replicas.enter(endpoint)
    host.desire()
    await host.engines.retire(0)
    assert host.engines.inventory.slots == {}


async def test_an_engine_that_dies_as_its_gate_opens_comes_back_with_the_weights_it_says(
    host: ScriptedHost,
) -> None:
    await load(host, BASE)
    slot = host.engines.inventory.slots[0]
    engine = host.engine
    opened = slot._open

    def die_first(model: str, generation: int) -> None:
        slot._open = opened
        engine._state = engine.status.state.BACKOFF  # before anybody has observed it
        opened(model, generation)
        engine.die()

    slot._open = die_first
    await host.replicas.make_resident(TUNED)
    await wait_until_async(lambda: slot.is_open, 10, "the gate to open")
    assert slot.model == TUNED
    assert engine._loaded == host.objects.path_of(a_model(TUNED))
    assert host.replicas.endpoint_for(BASE) is None


async def test_one_request_that_fails_after_a_load_leaves_no_other_waiting(
    host: ScriptedHost,
) -> None:
    loads = Loads(host.replicas)
    told: list[object] = []

    def fails(_result: object) -> None:
        raise RuntimeError("the request's own")

    from agent.core.cold_start import Wanted

    loads.wait(Wanted(BASE), fails)
    loads.wait(Wanted(BASE), told.append)
    await wait_until_async(lambda: bool(told), 10, "the other to be told")
    assert loads.waiting == 0


async def test_every_slot_in_use_is_refused_for_now_and_forgets_nothing(
    host: ScriptedHost,
) -> None:
    await load(host, BASE)
    for name in (FR, PT):
        await load(host, BASE, name)
        endpoint = host.replicas.endpoint_for(BASE, name)
        assert endpoint is not None
        host.replicas.enter(endpoint)
    policy = host.engines.policy
    host.engines.policy = replace(policy, choice=replace(policy.choice, max_wait_ms=0.0))
    with pytest.raises(Overloaded):
        await host.replicas.make_resident(BASE, DE)
    assert host.replicas.endpoint_for(BASE, FR) is not None
    assert host.replicas.endpoint_for(BASE, PT) is not None
    assert host.engines.failures.refused == {}


async def fails_to_load(host: ScriptedHost) -> EdgeForgeError:
    with pytest.raises(EdgeForgeError) as raised:
        await host.replicas.make_resident(TUNED)
    return raised.value


async def test_a_thousand_requests_for_what_cannot_be_loaded_take_the_engine_from_others_twice(
    tmp_path: Path,
) -> None:
    host = ScriptedHost(tmp_path, max_engines=1)
    host.desire(a_model(BASE), a_model(TUNED, key=b"t" * 32))
    host.ready_at_once = False
    for starts in (1, 2):
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(fails_to_load(host))
            await wait_until_async(lambda n=starts: len(host.made) == n, 10, "its start")
            host.engine.give_up()
        assert isinstance(asked.result(), EngineFailed)
        await host.engines.stop(0)
    for _ in range(998):
        error = await fails_to_load(host)
        assert isinstance(error, NoReplica)
        assert "failed to load more than once: the engine of acme/tuned@1" in error.message
        assert error.retry_after_s is not None
    assert len(host.made) == 2
    assert host.replicas.cold_path(TUNED) is None
    assert host.replicas.cold_path(BASE) is not None
    host.now_ms += 2_000
    assert host.replicas.cold_path(TUNED) is not None


async def test_what_is_loadable_is_looked_up_once_for_all_who_ask_until_it_changes(
    host: ScriptedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    path_of = host.engines.cold_path

    def counted(model: str, adapter: str = "") -> tuple[ColdPath, Residency] | None:
        looked_up.append(adapter or model)
        return path_of(model, adapter)

    monkeypatch.setattr(host.engines, "cold_path", counted)
    for _ in range(100):
        assert set(host.replicas.loadable() or {}) == {BASE, TUNED, FR, PT, DE}
    assert len(looked_up) == 5
    await load(host, BASE)
    assert BASE not in (host.replicas.loadable() or {})
    before = len(looked_up)
    host.now_ms += 250
    host.replicas.loadable()
    assert len(looked_up) == before + 5


async def test_more_names_than_a_probe_says_are_not_looked_up_for_it(host: ScriptedHost) -> None:
    host.desire(a_model(BASE), *(an_adapter(f"acme/a{number}@1") for number in range(1_024)))
    assert host.replicas.loadable() is None
    host.desire(a_model(BASE))
    assert host.replicas.loadable() == {BASE: ColdWay(ColdPath.ENGINE, Residency.DISK)}
