"""The command line and the environment of an engine, and nothing else in either."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.engine import preimport
from agent.engine.argv import Accelerator, EngineSpec, engine_command
from protos.domain.errors import ConfigInvalid

UDS = Path("/var/lib/edgeforge/engine/run/e.sock")
HOME = Path("/var/lib/edgeforge/engine/home")
SPEC = EngineSpec(
    environment=Path("/opt/engine"),
    model_dir=Path("/var/lib/edgeforge/models/small"),
    model="acme/small@1",
    context_tokens=2048,
    accelerator=Accelerator.CPU,
)


def command(spec: EngineSpec = SPEC, **inherited: str) -> tuple[list[str], dict[str, str]]:
    made = engine_command(spec, uds_path=UDS, home_dir=HOME, inherited=inherited)
    return list(made.argv), made.env


def option(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_a_cpu_engine() -> None:
    argv, _env = command()
    assert argv[:3] == ["/opt/engine/bin/python", "-m", "vllm.entrypoints.openai.api_server"]
    assert option(argv, "--model") == "/var/lib/edgeforge/models/small"
    assert option(argv, "--served-model-name") == "acme/small@1"
    assert option(argv, "--uds") == str(UDS)
    assert option(argv, "--max-model-len") == "2048"
    assert option(argv, "--max-num-seqs") == "8"
    assert option(argv, "--kv-cache-memory-bytes") == str(1024**3)


def test_a_cpu_engine_needs_no_compiler_and_a_gpu_engine_compiles() -> None:
    argv, env = command()
    assert "--enforce-eager" in argv
    assert env["TORCHDYNAMO_DISABLE"] == "1"
    argv, env = command(replace(SPEC, accelerator=Accelerator.CUDA))
    assert "--enforce-eager" not in argv
    assert "TORCHDYNAMO_DISABLE" not in env


def test_a_gpu_engine_takes_the_memory_that_is_free() -> None:
    argv, _env = command(replace(SPEC, accelerator=Accelerator.CUDA))
    assert "--kv-cache-memory-bytes" not in argv


@pytest.mark.parametrize("accelerator", Accelerator)
def test_a_cache_size_that_was_asked_for_is_given(accelerator: Accelerator) -> None:
    argv, _env = command(replace(SPEC, accelerator=accelerator, kv_cache_bytes=7))
    assert option(argv, "--kv-cache-memory-bytes") == "7"


def test_nothing_listens_on_a_network() -> None:
    argv, _env = command()
    assert not {"--host", "--port"} & set(argv)


def test_the_environment_is_an_allowlist() -> None:
    _argv, env = command(
        PATH="/usr/bin",
        CUDA_VISIBLE_DEVICES="1",
        HF_TOKEN="hf_secret",
        AWS_SECRET_ACCESS_KEY="secret",
        VLLM_SERVER_DEV_MODE="1",
        VLLM_ALLOW_RUNTIME_LORA_UPDATING="1",
        VLLM_API_KEY="secret",
        HTTP_PROXY="http://proxy",
        PYTHONPATH="/home/me",
        HOME="/root",
    )
    assert env == {
        "PATH": "/usr/bin",
        "CUDA_VISIBLE_DEVICES": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "HOME": str(HOME),
        "LD_LIBRARY_PATH": "/opt/engine/lib/system",
        "TORCHDYNAMO_DISABLE": "1",
        "TMPDIR": str(UDS.parent),
        "TORCHINDUCTOR_CACHE_DIR": str(HOME / "inductor"),
        "TRANSFORMERS_OFFLINE": "1",
        "TRITON_CACHE_DIR": str(HOME / "triton"),
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_RPC_BASE_PATH": ".",
    }


def test_what_the_agent_decides_cannot_be_inherited() -> None:
    _argv, env = command(HF_HUB_OFFLINE="0", TMPDIR="/tmp", VLLM_RPC_BASE_PATH="/tmp")
    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["TMPDIR"] == str(UDS.parent)
    assert env["VLLM_RPC_BASE_PATH"] == "."


def test_the_environments_own_libraries_come_first() -> None:
    _argv, env = command(LD_LIBRARY_PATH="/opt/cuda/lib:/opt/nccl/lib")
    assert env["LD_LIBRARY_PATH"] == "/opt/engine/lib/system:/opt/cuda/lib:/opt/nccl/lib"


def test_an_operator_may_add_some_options() -> None:
    extra = ("--dtype", "float16", "--max_num_batched_tokens=512", "--seed", "-1")
    argv, _env = command(replace(SPEC, extra_args=extra))
    assert tuple(argv[-5:]) == extra


@pytest.mark.parametrize(
    "argument",
    [
        "--trust-remote-code",
        "--trust_remote_code",
        "--trust-remote",
        "--uds",
        "--host=0.0.0.0",
        "--api-key",
        "--enable-lora",
        "--middleware",
        "--config",
        "--hf-overrides.architectures",
        "-O3",
        "-tp",
        "--",
    ],
)
def test_all_other_options_are_refused(argument: str) -> None:
    with pytest.raises(ConfigInvalid, match="is not allowed"):
        command(replace(SPEC, extra_args=(argument, "x")))


def test_an_engine_that_embeds_and_parsers_are_asked_for_by_name() -> None:
    argv, _env = command(replace(SPEC, embeds=True))
    assert tuple(argv[-4:]) == ("--runner", "pooling", "--convert", "embed")
    argv, _env = command(replace(SPEC, tool_parser="hermes", reasoning_parser="qwen3"))
    assert tuple(argv[-5:]) == (
        "--enable-auto-tool-choice",
        "--tool-call-parser",
        "hermes",
        "--reasoning-parser",
        "qwen3",
    )


def test_an_engine_sees_only_its_own_gpus_and_counts_them_as_the_readings_do() -> None:
    spec = replace(SPEC, accelerator=Accelerator.CUDA, devices=("GPU-a", "1"))
    _argv, env = command(spec, CUDA_VISIBLE_DEVICES="7")
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-a,1"
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    _argv, env = command(replace(spec, accelerator=Accelerator.ROCM))
    assert env["ROCR_VISIBLE_DEVICES"] == "GPU-a,1"


def test_without_a_choice_an_engine_sees_the_gpus_that_it_inherits() -> None:
    spec = replace(SPEC, accelerator=Accelerator.CUDA)
    _argv, env = command(spec, CUDA_VISIBLE_DEVICES="7", CUDA_DEVICE_ORDER="FASTEST_FIRST")
    assert env["CUDA_VISIBLE_DEVICES"] == "7"
    assert env["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


def test_an_engine_that_takes_adapters_reserves_room_for_them() -> None:
    argv, _env = command(replace(SPEC, max_adapters=4, max_adapter_rank=20, load_format="auto"))
    assert tuple(argv[-9:]) == (
        *("--load-format", "auto", "--enable-lora"),
        *("--max-loras", "4", "--max-cpu-loras", "8", "--max-lora-rank", "32"),
    )


def test_only_an_engine_of_the_agents_own_is_given_the_routes_of_its_control() -> None:
    _argv, env = command()
    assert "VLLM_SERVER_DEV_MODE" not in env
    _argv, env = command(replace(SPEC, controlled=True))
    assert env["VLLM_SERVER_DEV_MODE"] == env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"


def test_on_a_cpu_vllm_may_be_started_from_one_import():
    argv, _env = command(replace(SPEC, accelerator=Accelerator.CPU, preimport=True))
    assert argv[1:4] == ["-P", preimport.__file__, "--model"]
    argv, _env = command(replace(SPEC, accelerator=Accelerator.CUDA, preimport=True))
    assert argv[1:4] == ["-m", "vllm.entrypoints.openai.api_server", "--model"]
