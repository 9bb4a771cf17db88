"""How much of a host's memory the weights of one engine may take: what a deploy is checked by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: Share of a GPU's memory that vLLM takes by default.
GPU_MEMORY_RATIO = 0.9
#: Of a host's own memory: the rest is for Python, the system and the pages of files.
HOST_MEMORY_RATIO = 0.8
_MEMORY_OPTION = "--gpu-memory-utilization"
_PARALLEL_OPTION = "--tensor-parallel-size"


def weights_memory_bytes(
    memory_bytes: Iterable[int],
    *,
    on_cpu: bool,
    engines: int,
    kv_cache_bytes: int,
    args: Sequence[str] = (),
) -> int:
    """Return the most that the weights of one of ``engines`` may take; 0: not known.

    ``memory_bytes``: of each accelerator of the engines, or of the host where there is none.
    ``kv_cache_bytes`` is the whole host's. An engine computes on one accelerator, or on as many as
    ``args`` name.
    """
    totals = sorted(memory_bytes, reverse=True)
    if not totals:
        return 0
    ratio = HOST_MEMORY_RATIO if on_cpu else _number(args, _MEMORY_OPTION, GPU_MEMORY_RATIO)
    devices = max(1, int(_number(args, _PARALLEL_OPTION, 1.0)))
    used = totals[:devices]
    # The smallest decides: weights are split evenly.
    usable = int(min(used) * len(used) * ratio)
    return max(0, (usable - kv_cache_bytes) // max(1, engines))


def _number(args: Sequence[str], option: str, otherwise: float) -> float:
    """Return the value of the last ``option`` in ``args``, written ``--a=1`` or ``--a 1``."""
    found = otherwise
    for at, argument in enumerate(args):
        name, is_joined, joined = argument.partition("=")
        if name != option:
            continue
        text = joined if is_joined else next(iter(args[at + 1 : at + 2]), "")
        try:
            found = float(text)
        except ValueError:
            continue
    return found
