"""A coordinator's process: the hub over TLS, what `edgeforge env` prints, imports, tracks."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.fake_hub import SHA, FakeHub, fake_hub
from tests.support.hub import write_files
from tests.support.hub_process import HubProcess
from tests.support.registry_cases import base_files

HF = Path(sys.executable).with_name("hf")


@pytest.fixture
async def upstream() -> AsyncIterator[FakeHub]:
    async with fake_hub(base_files("upstream")) as one:
        yield one


@pytest.fixture
async def process(tmp_path: Path, upstream: FakeHub) -> AsyncIterator[HubProcess]:
    one = HubProcess(
        tmp_path,
        f'[upstream]\nendpoint = "{upstream.endpoint}"\nallow_private_endpoint = true\npoll_s = 1\n',
    )
    try:
        await one.start()
        yield one
    finally:
        one.coordinator.stop()


async def run(environment: dict[str, str], *command: object) -> str:
    child = await asyncio.create_subprocess_exec(
        *map(str, command),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await child.communicate()
    assert child.returncode == 0, output.decode()
    return output.decode()


async def test_clients_over_tls_with_the_variables_that_edgeforge_env_prints(process, tmp_path):
    printed = await asyncio.to_thread(process.edgeforge, "env")
    assert printed.returncode == 0, printed.stderr
    assert "export HF_TOKEN=YOUR-ACCOUNT-KEY" in printed.stdout
    key = process.key_file.read_text().strip()
    assert key not in printed.stdout
    named = ("env", "--json", "--account-key-file", str(process.key_file))
    variables = json.loads((await asyncio.to_thread(process.edgeforge, *named)).stdout)
    assert variables["HF_ENDPOINT"] == f"https://127.0.0.1:{process.port}"
    assert variables["HF_TOKEN"] == key
    environment = {
        "PATH": os.defpath,
        "HOME": str(tmp_path),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        **variables,
    }
    files = base_files()
    await run(environment, HF, "upload", "acme/small", write_files(tmp_path / "model", files))
    process.key_file.chmod(0o644)
    refused = await asyncio.to_thread(process.edgeforge, *named)
    assert refused.returncode != 0
    assert "can be read by others" in refused.stderr
    # What was published, and a key, outlive a restart.
    assert process.coordinator.stop() == 0
    process.coordinator.start()
    await run(environment, HF, "download", "acme/small", "--local-dir", tmp_path / "got")
    assert {name: (tmp_path / "got" / name).read_bytes() for name in files} == files
    log = process.coordinator.log_text()
    assert key not in log
    assert "Traceback" not in log


async def test_an_import_a_track_and_a_token_by_the_command_line(process, upstream):
    def edgeforge(*arguments: str, stdin: str = "") -> object:
        done = process.edgeforge(*arguments, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def all_of_it() -> None:
        token = edgeforge("upstream", "token", "set", "--owner", "acme", stdin="hf_secret\n")
        assert token == {"owner": "acme", "token": "set"}
        done = edgeforge("model", "import", "hf://org/repo", "--name", "acme/up@1")
        assert (done["name"], done["licence"]) == ("acme/up@1", "mit")
        track = edgeforge("model", "track", "hf://org/repo", "--as", "acme/adopted")
        assert track["releases"][0]["commit"] == SHA
        for _ in range(100):
            (track,) = edgeforge("model", "tracks")
            if track["releases"][0]["state"] == "imported":
                break
        release = track["releases"][0]
        assert release["object"] == f"acme/adopted@{SHA[:12]}"
        assert (release["promise"], "no engine" in release["error"]) == ("open", True)
        shown = process.edgeforge("model", "tracks").stdout
        assert "imported" in shown
        edgeforge("model", "untrack", "hf://org/repo")
        assert edgeforge("model", "tracks") == []
        edgeforge("upstream", "token", "forget", "--owner", "acme")

    await asyncio.to_thread(all_of_it)
    assert "Bearer hf_secret" in upstream.tokens_seen
    assert "hf_secret" not in process.coordinator.log_text()
