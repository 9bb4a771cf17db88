"""``edgeforge model import`` with a whole fleet: command line, coordinator and its child."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.cli.client import connected
from coordinator.cli.profiles import load_profile
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import COMMANDS, Fleet
from tests.support.model_files import model_files
from tests.support.real_configs import CONFIGS, TOKENIZER_CONFIGS
from tests.support.registry_cases import adapter_files, base_files
from tests.support.registry_doors import upload_messages

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


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def edgeforge(fleet: Fleet, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMANDS / "edgeforge"), *words],
        env=os.environ | {"EDGEFORGE_PROFILE": str(fleet.state_dir / "profile.toml")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def answer(fleet: Fleet, *words: str) -> Any:
    done = edgeforge(fleet, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_adapter_is_imported_shown_ported_verified_and_removed(
    fleet: Fleet, tmp_path: Path
) -> None:
    for name, seed in (("acme/base@1", "one"), ("acme/base@2", "two")):
        folder = write_folder(tmp_path / seed, base_files(seed))
        assert answer(fleet, "model", "import", str(folder), "--name", name)["is_new"]
    folder = write_folder(tmp_path / "lora", adapter_files() | {"training_args.json": b"{}"})
    words = ("adapter", "import", str(folder), "--name", "acme/fr@1", "--base", "acme/base@1")
    done = edgeforge(fleet, *words)
    assert done.returncode == 0, done.stderr
    assert "acme/fr@1: rank 4 for acme/base@1" in done.stdout
    assert "leaving out training_args.json" in done.stderr
    assert "uploading adapter_model.safetensors" in done.stderr
    again = answer(fleet, *words)
    assert (again["is_new"], again["uploaded_bytes"]) == (False, 0)
    ported = answer(fleet, "adapter", "port", "acme/fr", "--to", "acme/base@2", "--as", "acme/fr@2")
    assert (ported["model"], ported["ported_from"]) == ("acme/base@2", "acme/fr@1")
    shown = answer(fleet, "adapter", "show", "acme/fr")
    assert (shown["name"], shown["is_latest"], len(shown["revision"])) == ("acme/fr@2", True, 40)
    assert {one["name"] for one in answer(fleet, "adapter", "ls")} == {"acme/fr@1", "acme/fr@2"}
    assert "acme/fr@2 (latest)" in fleet.edgeforge("adapter", "ls")
    assert answer(fleet, "adapter", "verify", "acme/fr")["ok"]
    used = edgeforge(fleet, "model", "rm", "acme/base@2", "--yes")
    assert used.returncode == 1
    assert "is used by adapter acme/fr@2" in used.stderr
    asked = edgeforge(fleet, "adapter", "rm", "acme/fr@2")
    assert asked.returncode == 1, "nobody was there to confirm"
    assert answer(fleet, "adapter", "rm", "acme/fr@2", "--yes") == {"name": "acme/fr@2"}


def test_a_runtime_is_imported_from_a_file_with_options_before_it(
    fleet: Fleet, tmp_path: Path
) -> None:
    path = tmp_path / "fast.toml"
    path.write_text('version_constraint = ">=0.32"\nload_format = "auto"\nargs = ["--seed=1"]\n')
    made = answer(
        fleet,
        *("runtime", "import", str(path), "--name", "acme/fast@1"),
        *("--load-format", "safetensors", "--accelerator", "cpu"),
    )
    assert (made["load_format"], made["args"]) == ("safetensors", ["--seed=1"])
    assert answer(fleet, "runtime", "show", "acme/fast")["accelerators"] == ["cpu"]
    assert answer(fleet, "runtime", "verify", "acme/fast")["ok"]
    refused = edgeforge(
        fleet, *("runtime", "import", "--name", "acme/bad@1", "--arg=--uds=/tmp/x", "--arg=--seed")
    )
    assert refused.returncode == 1
    assert "is not allowed" in refused.stderr
    assert answer(fleet, "runtime", "rm", "acme/fast@1", "--yes") == {"name": "acme/fast@1"}


def test_an_import_goes_on_where_another_client_stopped(fleet: Fleet, tmp_path: Path) -> None:
    # Each file is this test's own.
    files = base_files("large", vocab_size=77, rope_theta=7.0) | {
        "README.md": b"# large\n" * 100_000
    }
    folder = write_folder(tmp_path / "large", files)
    data = files["README.md"]
    profile = load_profile(fleet.state_dir / "profile.toml")
    with connected(profile) as client:
        messages = upload_messages(data, 0, 300_000)
        half = client.registry(lambda stub: stub.Upload, messages)
    assert half.received_bytes == 300_000
    files["tokenizer_config.json"] = b'{"model_max_length": 2047}'
    (folder / "tokenizer_config.json").write_bytes(files["tokenizer_config.json"])
    done = answer(fleet, "model", "import", str(folder), "--name", "acme/large@1")
    assert done["uploaded_bytes"] == sum(map(len, files.values())) - 300_000


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: (folder / "link.json").symlink_to("/etc/passwd"), "is a link"),
        (lambda folder: os.mkfifo(folder / "pipe.json"), "is neither a file nor a directory"),
        (lambda folder: (folder / "adapter_model.bin").write_bytes(b"x"), "can hold code"),
        (lambda folder: (folder / ("a" * 245 + ".py")).write_bytes(b"x"), "longer than 200"),
    ],
    ids=["a link", "a device", "a pickle", "a long name"],
)
def test_a_folder_with_what_may_not_be_imported_is_refused_before_anything_is_sent(
    fleet: Fleet, tmp_path: Path, make: Callable[[Path], object], says: str
) -> None:
    folder = write_folder(tmp_path / "lora", adapter_files())
    make(folder)
    words = ("adapter", "import", str(folder), "--name", "acme/bad@1", "--base", "acme/base@1")
    done = edgeforge(fleet, *words)
    assert done.returncode == 1
    assert says in done.stderr
    assert "uploading" not in done.stderr
