"""Swaps of weights on a scripted engine that is killed, or fails, at every step."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.core.cold_start import ColdPath
from agent.core.fingerprint import Fingerprint, Take
from protos.domain.errors import EngineFailed
from protos.domain.manifest import manifest_sha256
from protos.domain.resources import ModelFile
from tests.support.scripted_host import BASE, TUNED, ScriptedHost, a_model, an_adapter
from tests.support.scripted_vllm import take_of
from tests.support.waiting import wait_until_async

FR = "acme/fr@1"
#: The engine's calls during a swap with one adapter loaded; the first reset is the drain's.
STEPS = ("unload", "reload", "reset", "take")


@pytest.fixture
async def host(tmp_path) -> ScriptedHost:
    host = ScriptedHost(tmp_path)
    host.desire(a_model(BASE), a_model(TUNED), an_adapter(FR))
    await host.replicas.make_resident(BASE, FR)
    host.engine.calls.clear()
    return host


async def until_open(host: ScriptedHost, model: str) -> None:
    await wait_until_async(
        lambda: host.replicas.endpoint_for(model) is not None, 5, f"{model} is served"
    )


def serves(host: ScriptedHost) -> Take:
    """What the weights say that are in the engine now."""
    assert host.engine._loaded is not None
    return take_of(host.engine._loaded)


async def test_the_steps_come_in_the_order_that_leaves_nothing_old(host: ScriptedHost):
    await host.replicas.make_resident(TUNED)
    verbs = [call.partition(" ")[0] for call in host.engine.calls]
    assert verbs == ["reset", "unload", "reload", "reset", "take"]
    assert serves(host) == take_of(host.objects.path_of(a_model(TUNED)))


@pytest.mark.parametrize("step", STEPS)
async def test_an_engine_killed_at_any_step_comes_back_with_the_old_model(
    host: ScriptedHost, step: str
):
    old = host.replicas.endpoint_for(BASE)
    assert old is not None
    host.engine.hold[step] = asyncio.Event()
    swap = asyncio.ensure_future(host.replicas.make_resident(TUNED))
    await wait_until_async(
        lambda: any(call.startswith(step) for call in host.engine.calls), 5, f"{step} began"
    )
    assert host.replicas.endpoint_for(BASE) is None
    host.engine.die()
    host.engine.hold[step].set()
    with pytest.raises(EngineFailed, match="killed by signal 9"):
        await swap
    await until_open(host, BASE)
    new = host.replicas.endpoint_for(BASE)
    assert new is not None
    assert new.generation == old.generation + 1
    assert serves(host) == take_of(host.objects.path_of(a_model(BASE)))
    assert host.replicas.endpoint_for(TUNED) is None
    host.engine.hold.clear()
    await host.replicas.make_resident(TUNED)
    assert host.replicas.endpoint_for(TUNED) is not None


@pytest.mark.parametrize("step", ["reload", "take"])
async def test_a_step_that_fails_is_undone_and_the_old_model_served(host: ScriptedHost, step: str):
    host.engine.fail[step] = "out of memory"
    with pytest.raises(EngineFailed, match="out of memory"):
        await host.replicas.make_resident(TUNED)
    await until_open(host, BASE)
    assert serves(host) == take_of(host.objects.path_of(a_model(BASE)))
    assert host.engine.starts == 1


async def test_weights_that_say_something_else_than_their_fingerprint_are_not_served(
    host: ScriptedHost,
):
    digest = manifest_sha256(a_model(TUNED).files).hex()
    host.fingerprints.save(digest, Fingerprint(Take((1, 9), (-55.0,)), at_start=True))
    with pytest.raises(EngineFailed, match="was not swapped in"):
        await host.replicas.make_resident(TUNED)
    await until_open(host, BASE)
    assert host.replicas.endpoint_for(TUNED) is None
    assert serves(host) == take_of(host.objects.path_of(a_model(BASE)))


async def test_an_engine_that_read_nothing_new_is_found_out_without_a_fingerprint(
    host: ScriptedHost,
):
    async def reload_nothing(_path) -> None: ...

    host.engine.reload_weights = reload_nothing
    with pytest.raises(EngineFailed, match="answers as the model before it"):
        await host.replicas.make_resident(TUNED)
    await until_open(host, BASE)


async def test_a_version_of_the_same_tensors_with_another_readme_is_swapped_in(
    host: ScriptedHost,
):
    async def reload_the_same(_path) -> None: ...

    base = a_model(BASE)
    readme = ModelFile("README.md", b"r" * 32, 10)
    host.desire(base, replace(a_model(TUNED), files=(*base.files, readme)))
    host.engine.reload_weights = reload_the_same
    await host.replicas.make_resident(TUNED)
    assert host.replicas.endpoint_for(TUNED) is not None


async def test_old_weights_that_do_not_come_back_are_restored_by_a_restart(host: ScriptedHost):
    async def broken(_path) -> None:
        raise EngineFailed("out of memory")

    host.engine.reload_weights = broken
    with pytest.raises(EngineFailed, match="out of memory"):
        await host.replicas.make_resident(TUNED)
    await until_open(host, BASE)
    assert "restart" in host.engine.calls
    assert host.engine.starts == 2


async def test_a_swap_waits_for_requests_and_no_new_one_gets_the_old_generation(
    host: ScriptedHost,
):
    endpoint = host.replicas.endpoint_for(BASE)
    assert endpoint is not None
    host.replicas.enter(endpoint)
    swap = asyncio.ensure_future(host.replicas.make_resident(TUNED))
    await asyncio.sleep(0.02)
    assert not swap.done()
    assert host.replicas.endpoint_for(BASE) is None
    assert host.engine.calls == []
    host.replicas.leave(endpoint)
    start = await swap
    assert start.path is ColdPath.SWAP
    # A request of the old generation that ends late changes nothing.
    host.replicas.leave(endpoint)
    new = host.replicas.endpoint_for(TUNED)
    assert new is not None
    host.replicas.enter(new)
    assert host.engines.inventory.views()[0].in_flight == 1


async def test_requests_that_do_not_end_keep_their_model(host: ScriptedHost):
    endpoint = host.replicas.endpoint_for(BASE, FR)
    assert endpoint is not None
    host.replicas.enter(endpoint)
    with pytest.raises(EngineFailed, match="did not end in time"):
        await host.replicas.make_resident(TUNED)
    assert host.replicas.endpoint_for(BASE, FR) == endpoint
    host.replicas.leave(endpoint)
    await host.replicas.make_resident(TUNED)


async def test_a_request_that_only_the_engine_counts_is_waited_for_too(host: ScriptedHost):
    host.engine.running = 1
    swap = asyncio.ensure_future(host.replicas.make_resident(TUNED))
    await asyncio.sleep(0.05)
    assert not swap.done()
    assert not [call for call in host.engine.calls if call.startswith("reload")]
    host.engine.running = 0
    await swap


async def test_an_adapter_that_loads_when_a_swap_is_asked_for_is_loaded_first(host: ScriptedHost):
    host.desire(a_model(BASE), a_model(TUNED), an_adapter(FR), an_adapter("acme/pt@1"))
    host.engine.hold["load"] = asyncio.Event()
    load = asyncio.ensure_future(host.replicas.make_resident(BASE, "acme/pt@1"))
    await asyncio.sleep(0.02)
    swap = asyncio.ensure_future(host.replicas.make_resident(TUNED))
    await asyncio.sleep(0.02)
    host.engine.hold["load"].set()
    await load
    await swap
    assert host.replicas.endpoint_for(TUNED) is not None
    assert host.engine.adapters == {}


async def test_who_asks_for_a_model_that_is_just_leaving_waits_for_its_way_back(host: ScriptedHost):
    host.engine.hold["reload"] = asyncio.Event()
    swap = asyncio.ensure_future(host.replicas.make_resident(TUNED))
    await asyncio.sleep(0.02)
    late = asyncio.ensure_future(host.replicas.make_resident(BASE))
    await asyncio.sleep(0.02)
    assert len(host.made) == 1
    host.engine.hold["reload"].set()
    await swap
    assert (await late).path is ColdPath.SWAP
    assert host.replicas.endpoint_for(BASE) is not None
    assert len(host.made) == 1


async def test_an_engine_restarts_with_the_model_that_was_swapped_in(host: ScriptedHost):
    await host.replicas.make_resident(TUNED)
    host.engine.die()
    await until_open(host, TUNED)
    assert serves(host) == take_of(host.objects.path_of(a_model(TUNED)))


async def test_a_start_keeps_the_fingerprint_that_swaps_are_held_against(host: ScriptedHost):
    digest = manifest_sha256(a_model(BASE).files).hex()
    kept = host.fingerprints.load(digest)
    assert kept is not None
    assert kept.at_start
    await host.replicas.make_resident(TUNED)
    swapped = host.fingerprints.load(manifest_sha256(a_model(TUNED).files).hex())
    assert swapped is not None
    assert not swapped.at_start
    host.engine.die()
    await until_open(host, TUNED)
    confirmed = host.fingerprints.load(manifest_sha256(a_model(TUNED).files).hex())
    assert confirmed is not None
    assert confirmed.at_start


async def test_a_damaged_fingerprint_is_none(host: ScriptedHost, tmp_path):
    for path in (tmp_path / "fingerprints").iterdir():
        path.write_text('{"token_ids": "x"')
    digest = manifest_sha256(a_model(BASE).files).hex()
    assert host.fingerprints.load(digest) is None
