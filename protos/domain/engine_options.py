"""Which of vLLM's options an operator's configuration or a published runtime may set.

An allowlist: new releases bring new options that open routes, run code or listen somewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: Options that an operator of a host may add to its engine's command line.
EXTRA_OPTIONS: Final = frozenset(
    {
        "--async-scheduling",
        "--block-size",
        "--chat-template-content-format",
        "--data-parallel-size",
        "--dtype",
        "--enable-auto-tool-choice",
        "--enable-chunked-prefill",
        "--enable-expert-parallel",
        "--enable-prefix-caching",
        "--enable-sleep-mode",
        "--enforce-eager",
        "--generation-config",
        "--gpu-memory-utilization",
        "--kv-cache-dtype",
        "--max-num-batched-tokens",
        "--no-async-scheduling",
        "--no-enable-chunked-prefill",
        "--no-enable-prefix-caching",
        "--pipeline-parallel-size",
        "--quantization",
        "--reasoning-parser",
        "--seed",
        "--sleep-mode-offload-cudagraph",
        "--tensor-parallel-size",
        "--tool-call-parser",
    }
)
#: ``--generation-config`` takes a folder, which a stranger may not choose.
_HOST_ONLY: Final = frozenset({"--generation-config"})
#: Options that a published runtime may set.
RUNTIME_OPTIONS: Final = EXTRA_OPTIONS - _HOST_ONLY
#: Options that vLLM has on CUDA only.
CUDA_OPTIONS: Final = frozenset({"--enable-sleep-mode", "--sleep-mode-offload-cudagraph"})

#: Formats of vLLM 0.32 that read the safetensors of a model's folder. The others read pickles
#: (pt, npcache, hf), other files (mistral, sharded_state, tensorizer, runai_streamer_sharded),
#: the network (modelexpress), or nothing (dummy).
LOAD_FORMATS: Final = frozenset(
    {"auto", "safetensors", "fastsafetensors", "instanttensor", "ipc_cache", "runai_streamer"}
)
#: Formats that need CUDA.
CUDA_LOAD_FORMATS: Final = frozenset({"fastsafetensors", "instanttensor", "ipc_cache"})
ACCELERATORS: Final = ("cuda", "rocm", "cpu")
ENGINE_KINDS: Final = ("vllm",)


def extra_option_problems(
    extra_args: Sequence[str], allowed: frozenset[str] = EXTRA_OPTIONS
) -> list[str]:
    """Return a sentence for each option in ``extra_args`` that may not be set."""
    return [
        f"engine option {name} is not allowed"
        for name in option_names(extra_args)
        if name not in allowed
    ]


def option_names(args: Sequence[str]) -> list[str]:
    """Return the names of the options among the words of a command line."""
    # vLLM reads underscores as hyphens, and what follows a dot as a key inside an option.
    return [
        argument.partition("=")[0].partition(".")[0].replace("_", "-")
        for argument in args
        if argument.startswith("-") and not _is_number(argument)
    ]


def _is_number(argument: str) -> bool:
    try:
        float(argument)
    except ValueError:
        return False
    return True
