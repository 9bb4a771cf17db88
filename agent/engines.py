"""Makes this host's engine from its configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.engine_policy import EnginePolicy
from agent.core.own_accelerators import wanted_devices
from agent.engine.argv import Accelerator, EngineSpec
from agent.engine.external import EXTERNAL_POLICY, ExternalEngine
from agent.engine.supervisor import EngineSupervisor

if TYPE_CHECKING:
    from agent.config import AgentConfig, EngineConfig
    from agent.core.engine_status import EngineStatus
    from agent.engine.driver import RelayedAt
    from agent.replicas import Engine
    from protos.domain.resources import DesiredReplica

_GIB = 1024**3
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
) -> Callable[[DesiredReplica, str], Engine]:
    """Return a function that makes the engine for a model in a given directory.

    ``devices``: identities or indexes of the accelerators it may use; empty: what it inherits.
    """
    if config.cpu_bind:
        environ[_BIND_VARIABLE] = config.cpu_bind

    def make(desired: DesiredReplica, model_dir: str) -> Engine:
        limit = config.max_context_tokens
        context_tokens = min(limit, desired.context_tokens) if limit else desired.context_tokens
        spec = EngineSpec(
            environment=Path(config.venv).absolute(),
            model_dir=Path(model_dir).absolute(),
            model=desired.model,
            context_tokens=context_tokens,
            accelerator=find_accelerator(config.accelerator),
            devices=devices,
            max_parallel=config.max_parallel,
            kv_cache_bytes=config.kv_cache_gib * _GIB if config.kv_cache_gib else None,
            embeds=config.mode == "embed",
            tool_parser=config.tool_parser,
            reasoning_parser=config.reasoning_parser,
            extra_args=config.args,
        )
        return EngineSupervisor(
            spec,
            state_dir=state_dir.absolute() / "engine",
            now_mono_ms=now_mono_ms,
            draw=draw,
            on_change=on_change,
            policy=EnginePolicy(
                start_timeout_ms=config.start_timeout_ms,
                stall_timeout_ms=config.stall_timeout_ms,
            ),
            relayed_mono_ms=relayed_mono_ms,
        )

    return make


def external_engine(
    config: EngineConfig,
    *,
    now_mono_ms: Callable[[], float],
    draw: Callable[[], float],
    on_change: Callable[[EngineStatus], None],
    relayed_mono_ms: RelayedAt,
) -> Engine | None:
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


def environment() -> MutableMapping[str, str]:
    """Return the process's environment, of which engines inherit a part."""
    return os.environ
