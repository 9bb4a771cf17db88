"""Makes this host's engines from its configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.engine_policy import EnginePolicy
from agent.core.host_capacity import (
    GPU_MEMORY_RATIO,
    weights_memory_bytes,
)
from agent.core.own_accelerators import wanted_devices
from agent.core.runtime_fit import runtime_problem
from agent.engine.argv import Accelerator, EngineSpec
from agent.engine.driver import never_relayed
from agent.engine.external import EXTERNAL_POLICY, ExternalEngine
from agent.engine.fingerprints import Fingerprints
from agent.engine.host import HostEngines, HostPolicy
from agent.engine.slot_parts import SlotSettings
from agent.engine.supervisor import EngineSupervisor
from agent.replicas import Replicas
from protos.domain.errors import InvalidRequest
from protos.domain.hardware import UNKNOWN_HARDWARE, NodeHardware

if TYPE_CHECKING:
    from agent.config import AgentConfig, EngineConfig
    from agent.core.accelerators import Reading
    from agent.core.engine_status import EngineStatus
    from agent.engine.driver import RelayedAt
    from agent.engine.host import EngineMaker
    from agent.engine.inventory import Objects, ObjectsWithProgress
    from agent.engine.slot_parts import Engine
    from agent.replicas import ExternalServer
    from protos.domain.resources import DesiredReplica

_GIB = 1024**3
_MEMORY_OPTION = "--gpu-memory-utilization"
#: A variable of vLLM's; the engine process inherits it.
_BIND_VARIABLE = "VLLM_CPU_OMP_THREADS_BIND"


def find_accelerator(named: str) -> Accelerator:
    """Return the kind of accelerator; "auto" checks for GPU device files."""
    if named != "auto":
        return Accelerator(named)
    if Path("/dev/nvidiactl").exists():
        return Accelerator.CUDA
    if Path("/dev/kfd").exists():
        return Accelerator.ROCM
    return Accelerator.CPU


def vllm_maker(
    config: EngineConfig,
    *,
    state_dir: Path,
    environ: MutableMapping[str, str],
    now_mono_ms: Callable[[], float],
    draw: Callable[[], float],
    on_change: Callable[[EngineStatus], None],
    relayed_mono_ms: RelayedAt,
    devices: tuple[str, ...] = (),
) -> EngineMaker:
    """Return a function that makes the engine for a model in a given directory.

    ``devices``: identities or indexes of the accelerators it may use; empty: what it inherits.
    """
    accelerator = find_accelerator(config.accelerator)
    version = engine_version(Path(config.venv))
    engines = config.max_engines
    if config.cpu_bind:
        environ[_BIND_VARIABLE] = config.cpu_bind

    def make(desired: DesiredReplica, model_dir: Path, index: int) -> Engine:
        spec = _spec(config, desired, model_dir, accelerator, version, devices)
        return EngineSupervisor(
            spec,
            state_dir=state_dir.absolute() / ("engine" if index == 0 else f"engine-{index}"),
            now_mono_ms=now_mono_ms,
            draw=draw,
            on_change=on_change,
            policy=EnginePolicy(
                start_timeout_ms=config.start_timeout_ms,
                stall_timeout_ms=config.stall_timeout_ms,
            ),
            # A token of any engine is counted here: of several, it tells nothing of one.
            relayed_mono_ms=relayed_mono_ms if engines == 1 else never_relayed,
        )

    return make


def _spec(
    config: EngineConfig,
    desired: DesiredReplica,
    model_dir: Path,
    accelerator: Accelerator,
    version: str,
    devices: tuple[str, ...],
) -> EngineSpec:
    """Return what is started for a model. Raises: InvalidRequest if its runtime does not fit."""
    runtime, engines = desired.runtime, config.max_engines
    if runtime is not None and (
        problem := runtime_problem(
            runtime,
            engine_kind=config.kind,
            engine_version=version,
            accelerator=accelerator.value,
        )
    ):
        raise InvalidRequest(problem, "deploy it where its runtime fits, or change the runtime")
    limit = config.max_context_tokens
    return EngineSpec(
        environment=Path(config.venv).absolute(),
        model_dir=model_dir.absolute(),
        model=desired.model,
        context_tokens=min(limit, desired.context_tokens) if limit else desired.context_tokens,
        accelerator=accelerator,
        devices=devices,
        max_parallel=config.max_parallel,
        kv_cache_bytes=config.kv_cache_gib * _GIB // engines if config.kv_cache_gib else None,
        embeds=config.mode == "embed",
        tool_parser=config.tool_parser,
        reasoning_parser=config.reasoning_parser,
        max_adapters=max_adapters(config),
        max_adapter_rank=config.max_adapter_rank,
        controlled=config.mode == "generate",
        preimport=config.preimport,
        load_format=runtime.load_format if runtime is not None else "",
        extra_args=_extra_args(config, accelerator, runtime.args if runtime else ()),
    )


def host_engines(
    config: EngineConfig,
    objects: Objects,
    make: EngineMaker,
    *,
    state_dir: Path,
    now_mono_ms: Callable[[], float],
    on_change: Callable[[], None],
) -> HostEngines | None:
    """Return what supervises this host's engines, or None if the agent runs none."""
    if config.kind != "vllm":
        return None
    fingerprints = Fingerprints(
        state_dir / "fingerprints",
        engine_version=engine_version(Path(config.venv)),
        device=find_accelerator(config.accelerator).value,
    )
    settings = SlotSettings(fingerprints, max_adapters(config), now_mono_ms, on_change)
    policy = HostPolicy(config.max_engines, config.start_timeout_ms)
    return HostEngines(objects, make, settings, policy)


def max_adapters(config: EngineConfig) -> int:
    """Return how many adapters an engine of this host takes at once; one that embeds takes none."""
    return config.max_adapters if config.takes_adapters else 0


def engine_version(environment: Path) -> str:
    """Return the version of vLLM in ``environment``, empty if there is none."""
    for folder in sorted(environment.glob("lib/python3*/site-packages/vllm*.dist-info")):
        found = re.fullmatch(r"vllm(_\w+)?-(.+)\.dist-info", folder.name)
        if found is not None:
            return found.group(2)
    return ""


def host_capacity(config: EngineConfig, readings: Iterable[Reading]) -> NodeHardware:
    """Return what this host's engines can hold; ``readings``: of their own accelerators."""
    if config.kind != "vllm":
        return UNKNOWN_HARDWARE
    accelerator = find_accelerator(config.accelerator)
    on_cpu = accelerator is Accelerator.CPU
    memory_bytes = [one.memory_total_bytes for one in readings if one.memory_total_bytes]
    adapters = max_adapters(config)
    return NodeHardware(
        accelerator_kind=accelerator.value,
        weights_memory_bytes=weights_memory_bytes(
            [_host_memory_bytes()] if on_cpu else memory_bytes,
            on_cpu=on_cpu,
            engines=config.max_engines,
            kv_cache_bytes=config.kv_cache_gib * _GIB,
            args=config.args,
        ),
        engine_version=engine_version(Path(config.venv)),
        max_adapters=adapters,
        max_adapter_rank=config.max_adapter_rank if adapters else 0,
        max_engines=config.max_engines,
    )


def _host_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _extra_args(
    config: EngineConfig, accelerator: Accelerator, of_runtime: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the host's arguments, then the runtime's, which win; several engines share a GPU."""
    args = (*config.args, *of_runtime)
    named = any(one.partition("=")[0] == _MEMORY_OPTION for one in args)
    if accelerator is Accelerator.CPU or config.max_engines == 1 or named:
        return args
    return (f"{_MEMORY_OPTION}={GPU_MEMORY_RATIO / config.max_engines:.3f}", *args)


def external_engine(
    config: EngineConfig,
    *,
    now_mono_ms: Callable[[], float],
    draw: Callable[[], float],
    on_change: Callable[[EngineStatus], None],
    relayed_mono_ms: RelayedAt,
) -> ExternalServer | None:
    """Return the external server that the configuration names, or None."""
    if config.kind != "external":
        return None
    return ExternalEngine(
        config.url,
        embeds=config.mode == "embed",
        now_mono_ms=now_mono_ms,
        draw=draw,
        on_change=on_change,
        policy=replace(EXTERNAL_POLICY, stall_timeout_ms=config.stall_timeout_ms),
        relayed_mono_ms=relayed_mono_ms,
    )


def own_devices(config: AgentConfig) -> tuple[str, ...] | None:
    """Return the accelerators that this host's engine computes on; None: all of them."""
    engine = config.engine
    on_cpu = engine.kind == "vllm" and find_accelerator(engine.accelerator) is Accelerator.CPU
    return wanted_devices(config.gpu.devices, os.environ, on_cpu=on_cpu)


def make_replicas(
    config: AgentConfig,
    objects: ObjectsWithProgress,
    *,
    now_mono_ms: Callable[[], float],
    draw: Callable[[], float],
    on_engine: Callable[[EngineStatus], None],
    on_change: Callable[[], None],
    relayed_mono_ms: RelayedAt,
) -> Replicas:
    """Return what loads models on this host, with its engines or its external server."""
    maker = vllm_maker(
        config.engine,
        state_dir=config.state_dir,
        environ=os.environ,
        now_mono_ms=now_mono_ms,
        draw=draw,
        on_change=on_engine,
        relayed_mono_ms=relayed_mono_ms,
        devices=config.gpu.devices,
    )
    engines = host_engines(
        config.engine,
        objects,
        maker,
        state_dir=config.state_dir,
        now_mono_ms=now_mono_ms,
        on_change=on_change,
    )
    external = external_engine(
        config.engine,
        now_mono_ms=now_mono_ms,
        draw=draw,
        on_change=on_engine,
        relayed_mono_ms=relayed_mono_ms,
    )
    return Replicas(
        objects,
        engines=engines,
        external=external,
        on_change=on_change,
        now_mono_ms=now_mono_ms,
        draw=draw,
    )
