"""Adapters and weights come into the real vLLM while it runs, and it stays what it says it is.

One engine for all tests here, in the order of its life: it is killed near the end.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from agent.core.cold_start import ColdPath
from agent.core.fingerprint import TOLERANCE, difference
from protos.domain.errors import EngineFailed
from protos.domain.resources import ReplicaState
from tests.support.engine_routes import PRIVATE, PUBLIC
from tests.support.fine_tunes import fine_tune_of
from tests.support.lora_files import adapter_for
from tests.support.real_host import RealHost, greedy, token_ids
from tests.support.waiting import wait_until_async

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

BASE, TUNED, BROKEN = "acme/base@1", "acme/tuned@1", "acme/broken@1"
FR, PT, DE, NOTHING = "acme/fr@1", "acme/pt@1", "acme/de@1", "acme/nothing@1"
STORY = "A long story: once upon a time there was"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(
    engine_environment: Path, small_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RealHost]:
    folder = tmp_path_factory.mktemp("cold")
    host = RealHost(engine_environment, folder / "s")
    objects = host.objects
    models = [
        objects.model(BASE, small_model_dir),
        objects.model(TUNED, fine_tune_of(small_model_dir, folder)),
        objects.model(BROKEN, broken_copy_of(small_model_dir, folder / "broken")),
    ]
    adapters = [
        objects.adapter(name, BASE, adapter_for(small_model_dir, folder / f"a{seed}", seed))
        for seed, name in enumerate((FR, PT, DE), 1)
    ]
    zero = adapter_for(small_model_dir, folder / "zero", 9, strength=0.0)
    adapters.append(objects.adapter(NOTHING, BASE, zero))
    host.replicas.set_desired(
        {one.model: one for one in models}, {one.adapter: one for one in adapters}
    )
    start = await host.replicas.make_resident(BASE)
    assert start.path is ColdPath.ENGINE
    yield host
    await host.engines.close()


def broken_copy_of(model_dir: Path, folder: Path) -> Path:
    """Return a model whose weights end too early: what an engine finds out while it reads."""
    folder.mkdir()
    for path in model_dir.iterdir():
        data = path.read_bytes()
        (folder / path.name).write_bytes(data[:100_000] if "safetensors" in path.name else data)
    return folder


async def test_an_unloaded_adapter_is_forgotten_by_name_and_a_name_is_loaded_once(host: RealHost):
    """What the scripted engine does, too."""
    path = host.objects.folders[FR]
    await host.control.load_adapter("probe", path)
    with pytest.raises(EngineFailed, match="already been loaded"):
        await host.control.load_adapter("probe", path)
    await host.control.unload_adapter("probe")
    with pytest.raises(EngineFailed, match="does not exist"):
        await host.control.take("probe")
    await host.control.unload_adapter("probe")
    with pytest.raises(EngineFailed, match="No adapter found"):
        await host.control.load_adapter("probe", path.with_name("nowhere"))


async def test_the_routes_that_no_request_may_reach_are_all_known(host: RealHost):
    log = (host.state_dir / "engine" / "engine.log").read_text()
    routes = set(re.findall(r"Route: (/\S*),", log))
    known = {*PRIVATE, *PUBLIC}
    assert "/collective_rpc" in routes
    assert {re.sub(r"\{\w+\}", "?", one) for one in routes} <= {
        re.sub(r"/(a|r)(?=/|$)", "/?", one) for one in known
    }


async def test_two_takes_of_the_same_weights_are_equal_while_others_are_served(host: RealHost):
    idle = await host.control.take(BASE)
    streams = [asyncio.create_task(host.ask(BASE, prompt=STORY, tokens=60)) for _ in range(3)]
    busy = [await host.control.take(BASE) for _ in range(3)]
    await asyncio.gather(*streams)
    assert [difference(idle, one, TOLERANCE["cpu"]) for one in busy] == ["", "", ""]


async def test_two_tenants_decode_what_they_would_while_a_third_adapter_loads(host: RealHost):
    quiet = {one: await host.ask(BASE, one, prompt=STORY, tokens=48) for one in (FR, PT)}
    assert quiet[FR] != quiet[PT]
    running = {
        one: asyncio.create_task(host.ask(BASE, one, prompt=STORY, tokens=48)) for one in (FR, PT)
    }
    await asyncio.sleep(0.3)
    start = await host.replicas.make_resident(BASE, DE)
    assert start.path is ColdPath.ADAPTER
    assert not any(task.done() for task in running.values()), "they were to be disturbed"
    assert {one: await task for one, task in running.items()} == quiet


async def test_an_adapter_without_effect_is_refused_though_the_engine_loads_it(host: RealHost):
    with pytest.raises(EngineFailed, match="no effect") as refused:
        await host.replicas.make_resident(BASE, NOTHING)
    assert not refused.value.retryable
    assert host.replicas.cold_path(BASE, NOTHING) is None


async def test_a_thousand_first_requests_cause_one_load(host: RealHost):
    before = {one.path: one.count for one in host.replicas.cold_starts.summaries()}
    host.engines.inventory.slot_of(BASE).slots.clear()
    served = host.engines.inventory.served[DE]
    await host.control.unload_adapter(served)
    await asyncio.gather(*(host.replicas.make_resident(BASE, DE) for _ in range(1_000)))
    after = {one.path: one.count for one in host.replicas.cold_starts.summaries()}
    assert after[ColdPath.ADAPTER] == before[ColdPath.ADAPTER] + 1
    for one in (FR, PT):
        await host.control.unload_adapter(host.engines.inventory.served[one])


async def test_a_fine_tune_is_swapped_in_and_out_and_each_answers_as_itself(host: RealHost):
    base = await host.ask(BASE, tokens=24)
    with_adapter = await host.ask(BASE, FR, tokens=24)
    first = host.replicas.endpoint_for(BASE)
    assert first is not None
    start = await host.replicas.make_resident(TUNED)
    assert start.path is ColdPath.SWAP
    tuned = await host.ask(TUNED, tokens=24)
    assert tuned != base
    assert host.replicas.endpoint_for(BASE) is None
    assert host.replicas.endpoint_for(BASE, FR) is None
    await host.replicas.make_resident(BASE)
    assert await host.ask(BASE, tokens=24) == base
    assert await host.ask(BASE, FR, tokens=24) == with_adapter
    again = host.replicas.endpoint_for(BASE)
    assert again is not None
    assert again.generation == first.generation + 2


async def test_a_swap_waits_for_the_requests_of_the_old_model(host: RealHost):
    quiet = await host.ask(BASE, prompt=STORY, tokens=40)
    running = asyncio.create_task(host.ask(BASE, prompt=STORY, tokens=40))
    await asyncio.sleep(0.2)
    await host.replicas.make_resident(TUNED)
    assert running.done()
    assert await running == quiet
    await host.replicas.make_resident(BASE)


async def test_the_engine_refuses_to_empty_a_prefix_cache_in_use(host: RealHost):
    endpoint = await host.endpoint(BASE)
    running = asyncio.create_task(token_ids(endpoint, STORY, 60))
    await asyncio.sleep(0.3)
    assert not await host.control.reset_prefix_cache()
    await running
    await wait_until_async(lambda: True, 1, "")
    assert await host.control.reset_prefix_cache()
    assert greedy(endpoint, STORY, 1)["model"] == endpoint.model


async def test_weights_that_cannot_be_read_leave_the_old_model(host: RealHost):
    """vLLM ends itself then; the next process reads the old weights from their folder."""
    base = await host.ask(BASE, tokens=24)
    with pytest.raises(EngineFailed, match="was not swapped in"):
        await host.replicas.make_resident(BROKEN)
    await wait_until_async(lambda: host.replicas.endpoint_for(BASE) is not None, 120, "back")
    assert await host.ask(BASE, tokens=24) == base
    assert host.replicas.endpoint_for(BROKEN) is None


async def test_an_engine_killed_in_the_middle_of_a_swap_comes_back_with_the_old_model(
    host: RealHost,
):
    base = await host.ask(BASE, FR, tokens=24)
    old = host.replicas.endpoint_for(BASE)
    assert old is not None
    swap = asyncio.create_task(host.replicas.make_resident(TUNED))
    await wait_until_async(lambda: host.replicas.endpoint_for(BASE) is None, 10, "gate closed")
    await asyncio.sleep(0.1)
    pid = host.replicas.engine_status.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EngineFailed, match="was not swapped in"):
        await swap
    assert host.replicas.endpoint_for(TUNED) is None
    await wait_until_async(lambda: host.replicas.endpoint_for(BASE) is not None, 120, "back")
    assert await host.ask(BASE, FR, tokens=24) == base
    new = host.replicas.endpoint_for(BASE)
    assert new is not None
    assert new.generation == old.generation + 1
    states = {one.adapter or one.model: one.state for one in host.replicas.report()}
    assert states[BASE] is ReplicaState.READY
    assert next(itertools.chain(host.replicas.resident())) == BASE
