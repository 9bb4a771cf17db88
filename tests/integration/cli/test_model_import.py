"""``edgeforge model import`` with a whole fleet: command line, coordinator and its child."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import COMMANDS, Fleet
from tests.support.model_files import model_files
from tests.support.real_configs import CONFIGS, TOKENIZER_CONFIGS

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with (
        FakeEngineProcess("acme-chat") as engine,
        Fleet(tmp_path_factory.mktemp("fleet"), [engine.url]) as running,
    ):
        yield running


def folder_of(path: Path, config: dict[str, Any], **files: bytes) -> Path:
    made = model_files(
        config__json=json.dumps(config).encode(),
        tokenizer_config__json=json.dumps(TOKENIZER_CONFIGS["Qwen2.5"]).encode(),
        chat_template__jinja=CHATML.encode(),
        **files,
    )
    path.mkdir()
    for name, data in made.items():
        (path / name).write_bytes(data)
    return path


def run_import(fleet: Fleet, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    profile = str(fleet.state_dir / "profile.toml")
    return subprocess.run(
        [str(COMMANDS / "edgeforge"), "model", "import", str(folder), "--name", name, "--json"],
        env=os.environ | {"EDGEFORGE_PROFILE": profile},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_published_model_with_traces_of_its_export_is_imported(
    fleet: Fleet, tmp_path: Path
) -> None:
    config = CONFIGS["Qwen2.5 Coder with YaRN"] | {"_name_or_path": "/home/me/qwen"}
    done = run_import(fleet, folder_of(tmp_path / "m", config, params__json=b"{}"), "acme/q@1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["family"] == "qwen"
    assert "config.json: leaving out _name_or_path" in done.stderr
    assert "leaving out params.json" in done.stderr


@pytest.mark.parametrize(
    ("change", "files", "says"),
    [
        (
            {"speculators_config": {"verifier": {"name_or_path": "/etc"}}},
            {},
            "config.json: speculators_config",
        ),
        ({"_attn_implementation": "kernels-community/flash-attn"}, {}, "_attn_implementation"),
        (
            {},
            {"chat_template__jinja": b"{{ 'x' * 9000000000 }}"},
            "chat_template.jinja took more than 3072 MiB of memory",
        ),
    ],
)
def test_a_model_that_would_turn_the_engine_is_refused_in_one_message(
    fleet: Fleet, tmp_path: Path, change: dict[str, Any], files: dict[str, bytes], says: str
) -> None:
    folder = folder_of(tmp_path / "m", CONFIGS["Qwen2 7B"] | change)
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    done = run_import(fleet, folder, "acme/bad@1")
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "acme/bad@1" not in fleet.edgeforge("model", "ls")
