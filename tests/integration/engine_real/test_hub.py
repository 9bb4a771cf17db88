"""The real vLLM serves a model straight from the registry, by its name and an account's key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.hub_process import HubProcess
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(400)

HF = Path(sys.executable).with_name("hf")
_START_S = 240.0


async def test_vllm_serve_takes_owner_and_name_from_the_registry(
    engine_environment, small_model_dir, tmp_path
):
    """Over TLS; the weights of 269 MB travel in parts."""
    hub = HubProcess(tmp_path)
    await hub.start()
    engine = None
    try:
        printed = hub.edgeforge("env", "--json", "--account-key-file", str(hub.key_file))
        environment = os.environ | json.loads(printed.stdout)
        environment |= {"HF_HOME": str(tmp_path / "home"), "VLLM_CPU_KVCACHE_SPACE": "1"}
        subprocess.run(
            [HF, "upload", "acme/small", small_model_dir], env=environment, check=True, timeout=200
        )
        (port,) = free_ports(1)
        serve = [engine_environment / "bin" / "vllm", "serve", "acme/small"]
        limits = ["--max-model-len", "512", "--max-num-seqs", "2", "--enforce-eager"]
        with (tmp_path / "vllm.log").open("wb") as log:
            engine = subprocess.Popen(
                [*serve, "--host", "127.0.0.1", "--port", str(port), *limits],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        answer = wait_until(lambda: _answer(engine, port), _START_S, "an answer of vLLM")
        assert answer["model"] == "acme/small"
        assert answer["choices"][0]["text"]
        assert answer["usage"]["completion_tokens"] == 8
    finally:
        if engine is not None:
            os.killpg(engine.pid, signal.SIGKILL)
            engine.wait()
        hub.coordinator.stop()


def _answer(engine: subprocess.Popen[bytes], port: int) -> dict | None:
    assert engine.poll() is None, "vLLM has ended"
    body = {"model": "acme/small", "prompt": "The sea is", "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)
    except OSError:
        return None
