"""The fake vLLM takes adapters and weights as the real one does, over its socket.

The same assertions as in ``engine_real/test_cold_starts.py``, where they take minutes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.core.cold_start import ColdPath
from protos.domain.errors import EngineFailed
from tests.support.fake_vllm import fake_environment
from tests.support.lora_files import adapter_for, base_files, write_files
from tests.support.real_host import RealHost
from tests.support.waiting import wait_until_async

BASE, TUNED, FR, NOTHING = "acme/base@1", "acme/tuned@1", "acme/fr@1", "acme/nothing@1"
COPY = "initech/copy@1"


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[RealHost]:
    host = RealHost(fake_environment(tmp_path / "venv", children=0), tmp_path / "s")
    base = write_files(tmp_path / "base", base_files())
    tuned = write_files(tmp_path / "tuned", base_files(seed=1))
    copy = write_files(tmp_path / "copy", base_files())
    folders = {BASE: base, TUNED: tuned, COPY: copy}
    models = [host.objects.model(name, folder) for name, folder in folders.items()]
    adapters = [
        host.objects.adapter(FR, BASE, adapter_for(base, tmp_path / "fr")),
        host.objects.adapter(NOTHING, BASE, adapter_for(base, tmp_path / "no", strength=0.0)),
    ]
    host.replicas.set_desired(
        {one.model: one for one in models}, {one.adapter: one for one in adapters}
    )
    await host.replicas.make_resident(BASE)
    yield host
    await host.engines.close()


async def test_names_are_loaded_once_and_an_unloaded_one_is_not_found(host: RealHost):
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


async def test_an_adapter_is_loaded_and_one_without_effect_refused(host: RealHost):
    start = await host.replicas.make_resident(BASE, FR)
    assert start.path is ColdPath.ADAPTER
    with pytest.raises(EngineFailed, match="no effect"):
        await host.replicas.make_resident(BASE, NOTHING)


async def test_weights_are_swapped_and_the_engine_dies_over_those_that_are_not_there(
    host: RealHost,
):
    await host.replicas.make_resident(BASE, FR)
    start = await host.replicas.make_resident(TUNED)
    assert start.path is ColdPath.SWAP
    assert await host.control.reset_prefix_cache()
    host.objects.folders[BASE] = host.objects.folders[BASE].with_name("nowhere")
    with pytest.raises(EngineFailed, match="was not swapped in"):
        await host.replicas.make_resident(BASE)
    await wait_until_async(lambda: host.replicas.endpoint_for(TUNED) is not None, 30, "back")


async def test_the_same_weights_of_another_account_are_swapped_in(host: RealHost):
    start = await host.replicas.make_resident(COPY)
    assert start.path is ColdPath.SWAP
    assert host.replicas.endpoint_for(COPY) is not None
