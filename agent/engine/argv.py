"""The command line and environment that start a vLLM from its specification."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.engine import preimport
from protos.domain.engine_options import extra_option_problems
from protos.domain.errors import ConfigInvalid

#: Variables that a vLLM inherits from the agent's environment. An allowlist: anything else that is
#: exported on a host (tokens, proxies, VLLM_SERVER_DEV_MODE) is not passed on.
INHERITED_VARIABLES = frozenset(
    {
        "CUDA_DEVICE_ORDER",
        "CUDA_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "LANG",
        "LC_ALL",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "NCCL_DEBUG",
        "NCCL_IB_DISABLE",
        "NCCL_P2P_DISABLE",
        "NCCL_SOCKET_IFNAME",
        "NVIDIA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
        "PATH",
        "ROCR_VISIBLE_DEVICES",
        "TZ",
        "VLLM_CPU_NUM_OF_RESERVED_CPU",
        "VLLM_CPU_OMP_THREADS_BIND",
        "VLLM_LOGGING_LEVEL",
    }
)


class Accelerator(enum.StrEnum):
    """The kind of device that the engine computes on."""

    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"


#: What limits the devices that an engine sees.
_VISIBLE_VARIABLE = {
    Accelerator.CUDA: "CUDA_VISIBLE_DEVICES",
    Accelerator.ROCM: "ROCR_VISIBLE_DEVICES",
}


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One vLLM: its environment, its model and its sizes."""

    #: The engine environment, as ``packaging/engine/install`` makes it.
    environment: Path
    #: A directory with safetensors, tokenizer and configuration.
    model_dir: Path
    #: The model's name in requests.
    model: str
    #: Tokens of prompt and answer together.
    context_tokens: int
    accelerator: Accelerator
    #: Identities or indexes (in PCI order) of the devices it may use; empty: what it inherits.
    devices: tuple[str, ...] = ()
    #: Requests computed at once; further ones wait in the engine.
    max_parallel: int = 8
    #: None leaves it to vLLM on a GPU (what is free), and is 1 GiB on a CPU.
    kv_cache_bytes: int | None = None
    #: It serves embeddings and generates no text.
    embeds: bool = False
    #: vLLM's names of its parsers; empty for none.
    tool_parser: str = ""
    reasoning_parser: str = ""
    #: LoRA adapters in a batch at once, and their highest rank; 0: it takes none.
    max_adapters: int = 0
    max_adapter_rank: int = 16
    #: It takes adapters and other weights while it runs, over routes for this host alone.
    controlled: bool = False
    #: Its processes are forked from one that has imported vLLM; on a CPU only.
    preimport: bool = False
    #: vLLM's reader of weights; empty: its own choice.
    load_format: str = ""
    #: Further vLLM options, of ``protos.domain.engine_options`` only, as on a command line.
    extra_args: tuple[str, ...] = ()

    @property
    def python(self) -> Path:
        """The interpreter that has vLLM."""
        return self.environment / "bin" / "python"


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """What to execute, with its complete environment."""

    argv: tuple[str, ...]
    env: dict[str, str]


DEFAULT_CPU_KV_CACHE_BYTES = 1024 * 1024 * 1024
#: Adapters whose weights vLLM keeps in host memory, for each that it computes with.
KEPT_PER_ADAPTER = 2
#: The ranks that vLLM reserves memory for. Source: vllm/config/lora.py, ``MaxLoRARanks``.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def engine_command(
    spec: EngineSpec, *, uds_path: Path, home_dir: Path, inherited: Mapping[str, str]
) -> EngineCommand:
    """Return the command for ``spec``, to be run in the private folder of ``uds_path``.

    ``home_dir`` must outlive the engine: vLLM keeps its caches there for a faster next start.

    Raises: ConfigInvalid naming every option that is not allowed.
    """
    if problems := extra_option_problems(spec.extra_args):
        raise ConfigInvalid(problems)
    if spec.preimport and spec.accelerator is Accelerator.CPU:
        # -P: the folder of the script has modules of this agent, which are none of vLLM's.
        argv = [str(spec.python), "-P", preimport.__file__]
    else:
        argv = [str(spec.python), "-m", preimport.SERVER]
    argv += ["--model", str(spec.model_dir), "--served-model-name", spec.model]
    argv += ["--uds", str(uds_path)]
    argv += ["--max-model-len", str(spec.context_tokens)]
    argv += ["--max-num-seqs", str(spec.max_parallel)]
    argv += ["--disable-uvicorn-access-log", "--disable-fastapi-docs"]
    kv_cache_bytes = spec.kv_cache_bytes
    if spec.accelerator is Accelerator.CPU:
        # Compiling takes minutes on a CPU and needs a compiler on the host.
        argv += ["--enforce-eager"]
        kv_cache_bytes = kv_cache_bytes or DEFAULT_CPU_KV_CACHE_BYTES
    if kv_cache_bytes is not None:
        argv += ["--kv-cache-memory-bytes", str(kv_cache_bytes)]
    if spec.embeds:
        argv += ["--runner", "pooling", "--convert", "embed"]
    if spec.tool_parser:
        argv += ["--enable-auto-tool-choice", "--tool-call-parser", spec.tool_parser]
    if spec.reasoning_parser:
        argv += ["--reasoning-parser", spec.reasoning_parser]
    argv += _weights_options(spec)
    argv += spec.extra_args
    return EngineCommand(tuple(argv), _environment(spec, uds_path.parent, home_dir, inherited))


def _environment(
    spec: EngineSpec, private_dir: Path, home_dir: Path, inherited: Mapping[str, str]
) -> dict[str, str]:
    env = {name: value for name, value in inherited.items() if name in INHERITED_VARIABLES}
    env |= {
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "HOME": str(home_dir),
        # First the libraries that packaging/engine/install added on a bare host.
        "LD_LIBRARY_PATH": ":".join(
            [str(spec.environment / "lib" / "system"), *env.get("LD_LIBRARY_PATH", "").split(":")]
        ).rstrip(":"),
        "TMPDIR": str(private_dir),
        # vLLM keys what it compiles by model, version and device; the folder above is emptied.
        "TORCHINDUCTOR_CACHE_DIR": str(home_dir / "inductor"),
        "TRANSFORMERS_OFFLINE": "1",
        "TRITON_CACHE_DIR": str(home_dir / "triton"),
        "VLLM_NO_USAGE_STATS": "1",
        # Relative: its sockets have long names, and a Unix socket's path at most 107 bytes.
        "VLLM_RPC_BASE_PATH": ".",
    }
    if spec.controlled:
        # Its routes answer on the private socket alone, and no port of the agent forwards them.
        env |= {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    if spec.accelerator is Accelerator.CUDA:
        # CUDA's own order is by speed; an index must mean the same GPU as in the readings.
        env.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    if spec.devices and spec.accelerator in _VISIBLE_VARIABLE:
        env[_VISIBLE_VARIABLE[spec.accelerator]] = ",".join(spec.devices)
    if spec.accelerator is Accelerator.CPU:
        # Without it the first request with a JSON schema compiles a kernel, and ends the engine
        # on a host without a compiler.
        env["TORCHDYNAMO_DISABLE"] = "1"
    return env


def _weights_options(spec: EngineSpec) -> list[str]:
    """Return how weights are read, and the room for adapters beside them."""
    options = ["--load-format", spec.load_format] if spec.load_format else []
    if spec.max_adapters:
        rank = next((one for one in _RANKS if one >= spec.max_adapter_rank), _RANKS[-1])
        options += ["--enable-lora", "--max-loras", str(spec.max_adapters)]
        options += ["--max-cpu-loras", str(spec.max_adapters * KEPT_PER_ADAPTER)]
        options += ["--max-lora-rank", str(rank)]
    return options
