"""``edgeforge model import``: what it does with its child, and with the files of a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.cli import gguf_import
from coordinator.cli.folder_scan import scan_folder
from coordinator.cli.gguf_import import dequantise
from protos.domain.errors import InvalidRequest
from tests.support.model_files import model_files

ROOT = Path(__file__).parents[3]
CONVERTER = ROOT / "coordinator" / "blobs" / "gguf_to_safetensors.py"

GOOD = """
echo '{"stage": "checking", "elapsed_ms": 0}'
echo '{"stage": "weights", "elapsed_ms": 1}'
echo '{"stage": "weights", "elapsed_ms": 2}'
mkdir "$3" && echo '{}' >"$3/config.json"
echo '{"stage": "done", "files": {}}'
"""
PARTIAL = 'mkdir "$3.partial"; touch "$3.partial/model.safetensors"\n'


class Host:
    """An engine environment whose Python is a script, and a GGUF file."""

    def __init__(self, folder: Path, script: str) -> None:
        self.venv = folder / "engine"
        python = self.venv / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text("#!/bin/bash\n" + script)
        python.chmod(0o755)
        self.gguf = folder / "a.gguf"
        self.gguf.write_bytes(b"GGUF")
        self.target = folder / "scratch" / "model"
        self.target.parent.mkdir()
        self.said: list[str] = []

    def dequantise(self) -> Path:
        return dequantise(self.gguf, self.target, self.venv, self.said.append)

    def refusal(self) -> str:
        with pytest.raises(InvalidRequest) as refused:
            self.dequantise()
        assert list(self.target.parent.iterdir()) == [], "a partial folder is left"
        return refused.value.message


def test_each_stage_is_reported_once(tmp_path):
    host = Host(tmp_path, GOOD)
    assert (host.dequantise() / "config.json").exists()
    assert host.said == ["dequantising a.gguf", "  checking", "  weights"]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ('echo \'{"error": {"message": "no", "hint": "x"}}\'; exit 65', "a.gguf: no"),
        ("echo trouble >&2; exit 3", "exit 3: trouble"),
        ("kill -XCPU $$", "more processor time"),
        ("kill -XFSZ $$", "wrote more"),
        ("kill -KILL $$", "exit -9"),
        ("yes '[' | tr -d '\\n' | head -c 3000000; exit 3", "exit 3"),
    ],
)
def test_a_child_that_ends_early_leaves_no_partial_files(tmp_path, script, says):
    assert says in Host(tmp_path, PARTIAL + script).refusal()


def test_a_conversion_that_hangs_is_ended_with_all_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_import, "_CONVERT_BASE_S", 1.0)
    pid_file = tmp_path / "pid"
    script = PARTIAL + f"sleep 600 & echo $! >{pid_file}; wait"
    assert "took longer than 1 s" in Host(tmp_path, script).refusal()
    stat = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


SPEND = """
hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
resource.setrlimit(resource.RLIMIT_CPU, (1, hard))
while True: pass
"""


@pytest.mark.parametrize(
    ("use", "ends_with"),
    [
        ("kept = bytearray(4 * 1024**3)", 1),
        ("open(sys.argv[2], 'wb').truncate(2**40)", 1),
        (SPEND, -signal.SIGXCPU),
    ],
)
def test_the_converter_limits_itself(tmp_path, use, ends_with):
    program = (
        "import resource, runpy, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "runpy.run_path(sys.argv[1])['limit_process'](0)\n" + use
    )
    done = subprocess.run(
        [sys.executable, "-c", program, CONVERTER, tmp_path / "big"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ends_with, done.stderr
    assert not (tmp_path / "big").exists() or (tmp_path / "big").stat().st_size == 0


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def test_what_an_export_says_of_its_machine_is_left_out(tmp_path):
    config = {"_name_or_path": "/home/me/x", "architectures": ["LlamaForCausalLM"]}
    files = model_files(config__json=json.dumps(config).encode()) | {
        "params.json": b"{}",
        "original/params.json": b"{}",
        "consolidated.00.safetensors": b"x",
    }
    folder = folder_of(tmp_path / "model", files)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    said: list[str] = []
    scanned = scan_folder(folder, scratch, said.append)
    assert {each.file.path for each in scanned} == {
        "config.json",
        "model.safetensors",
        "tokenizer_config.json",
    }
    [config_file] = [each for each in scanned if each.file.path == "config.json"]
    assert json.loads(config_file.source.read_text()) == {"architectures": ["LlamaForCausalLM"]}
    assert config_file.file.size_bytes == config_file.source.stat().st_size
    assert json.loads((folder / "config.json").read_text()) == config, "the folder is as it was"
    assert "config.json: leaving out _name_or_path" in said
    assert "leaving out params.json: no engine reads it" in said


def test_a_folder_without_such_keys_is_imported_byte_for_byte(tmp_path):
    folder = folder_of(tmp_path / "model", model_files())
    for each in scan_folder(folder, tmp_path, lambda _line: None):
        assert each.source == folder / each.file.path


def test_a_configuration_that_is_no_json_is_left_for_the_coordinator(tmp_path):
    for number, content in enumerate((b"not json", b"[1]", b"[" * 100_000)):
        folder = folder_of(tmp_path / str(number), model_files(config__json=content))
        [config] = [
            each
            for each in scan_folder(folder, tmp_path, lambda _line: None)
            if each.file.path == "config.json"
        ]
        assert config.source == folder / "config.json"
        assert os.path.getsize(config.source) == len(content)
