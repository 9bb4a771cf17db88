"""What this host's engines can take, as the coordinator plans by it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_GIB = 1024**3
#: Of a GPU's memory vLLM takes this part, for weights, KV cache and its own work.
GPU_SHARE = 0.9
#: Of a host's memory, engines may take this part.
HOST_SHARE = 0.8
#: What vLLM's processes take beside weights and KV cache: in host memory, and on a GPU.
HOST_OVERHEAD_BYTES = 2 * _GIB
GPU_OVERHEAD_BYTES = 1 * _GIB
#: Least KV cache beside the weights, where no size is configured: 1 GiB without a GPU.
LEAST_KV_BYTES = 1 * _GIB


@dataclass(frozen=True, slots=True)
class EngineCapacity:
    """The engines of a host: fields of Hello. ``weights_memory_bytes`` of 0 is not known."""

    accelerator_kind: str = ""
    engine_version: str = ""
    max_adapters: int = 0
    max_adapter_rank: int = 0
    max_engines: int = 0


def weights_memory_bytes(
    total_bytes: int, *, on_gpu: bool, kv_cache_bytes: int, max_engines: int
) -> int:
    """Return the most that the weights of one engine may take, 0 if ``total_bytes`` is unknown."""
    if not total_bytes:
        return 0
    share, overhead = (
        (GPU_SHARE, GPU_OVERHEAD_BYTES) if on_gpu else (HOST_SHARE, HOST_OVERHEAD_BYTES)
    )
    for_engines = int(total_bytes * share) - max(kv_cache_bytes, LEAST_KV_BYTES)
    return max(for_engines // max(max_engines, 1) - overhead, 1)
