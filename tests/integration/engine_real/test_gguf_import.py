"""A GGUF file becomes a safetensors directory, or a sentence."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gguf_files import KEYS, gguf_file
from tests.support.real_engine import CONVERTER, convert, engine_environment, small_model_gguf

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("engine_environment")]


MEASURE = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, used.ru_maxrss, used.ru_utime]))
"""


def last_line(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all("stage" in line for line in lines[:-1])
    answer: dict[str, object] = lines[-1]
    return answer


def refused(source: Path, tmp_path: Path, code: int = 65) -> str:
    target = tmp_path / "out"
    done = convert(source, target)
    assert done.returncode == code, done.stderr
    assert not target.exists()
    assert not list(tmp_path.glob("*.partial"))
    error = last_line(done)["error"]
    assert isinstance(error, dict)
    assert error["hint"]
    return str(error["message"])


def gguf_string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def gguf_of(architecture: str) -> bytes:
    pair = gguf_string("general.architecture") + struct.pack("<I", 8) + gguf_string(architecture)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair + b"\0" * 64


def test_the_small_model_is_complete(small_model_dir: Path) -> None:
    names = {path.name for path in small_model_dir.iterdir()}
    assert names == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    config = json.loads((small_model_dir / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == "bfloat16"
    assert "auto_map" not in config
    tokenizer = (small_model_dir / "tokenizer.json").read_text()
    assert '"individual_digits": true' in tokenizer
    with (small_model_dir / "model.safetensors").open("rb") as stream:
        (header_bytes,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(header_bytes))
    dtypes = {tensor["dtype"] for name, tensor in header.items() if name != "__metadata__"}
    assert dtypes == {"BF16"}
    traces = [
        path.name for path in small_model_dir.iterdir() if b"/tmp" in path.read_bytes()[:4096]
    ]
    assert traces == []


def test_the_same_file_gives_the_same_bytes(small_model_dir: Path, tmp_path: Path) -> None:
    done = convert(small_model_gguf(), tmp_path / "again")
    assert done.returncode == 0, done.stderr
    answer = last_line(done)
    assert answer["stage"] == "done"
    assert answer["family"] == "llama"
    for path in small_model_dir.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("content", [b"", b"GGUF", b"hello, world", b"GGUF\x03\0\0\0"])
def test_what_is_no_gguf_file_is_refused(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "a.gguf"
    source.write_bytes(content)
    refused(source, tmp_path)


@pytest.mark.parametrize("size_bytes", [100, 100_000, 50_000_000])
def test_a_cut_file_is_refused(tmp_path: Path, size_bytes: int) -> None:
    source = tmp_path / "a.gguf"
    with small_model_gguf().open("rb") as stream:
        source.write_bytes(stream.read(size_bytes))
    assert "is damaged" in refused(source, tmp_path)


@pytest.mark.parametrize("architecture", ["gpt2", "mamba", "x" * 10_000, "llama\n"])
def test_another_family_is_refused(tmp_path: Path, architecture: str) -> None:
    source = tmp_path / "a.gguf"
    source.write_bytes(gguf_of(architecture))
    assert "has architecture" in refused(source, tmp_path)


def test_an_old_version_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.gguf"
    source.write_bytes(b"GGUF" + struct.pack("<IQQ", 1, 0, 0))
    assert "version 1" in refused(source, tmp_path)


def test_a_header_without_a_model_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.gguf"
    source.write_bytes(gguf_of("llama"))
    assert "block_count" in refused(source, tmp_path)


def test_a_file_of_150_bytes_takes_little_memory_and_no_time(tmp_path: Path) -> None:
    """It made the converter build a model of the family's default sizes: 3.7 GB."""
    source = tmp_path / "a.gguf"
    source.write_bytes(gguf_of("llama"))
    command = [engine_environment() / "bin" / "python", CONVERTER, source, tmp_path / "out"]
    # In a small process of its own: a child's peak includes what its parent had when it forked.
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], capture_output=True, text=True, check=True
    )
    returncode, peak_kib, cpu_s = json.loads(done.stdout)
    assert returncode == 65
    assert peak_kib < 100 * 1024
    assert cpu_s < 5.0


def test_sizes_that_the_file_does_not_have_are_refused_before_torch_is_there(
    tmp_path: Path,
) -> None:
    source = tmp_path / "a.gguf"
    source.write_bytes(gguf_file(KEYS | {"llama.block_count": 80}))
    assert "block 1 of its layers" in refused(source, tmp_path)


def test_a_target_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine").touch()
    done = convert(small_model_gguf(), target)
    assert done.returncode == 73
    assert [path.name for path in target.iterdir()] == ["mine"]


def test_the_wrong_interpreter_is_told_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, CONVERTER, small_model_gguf(), tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 69
    assert "packaging/engine/install" in done.stdout
