"""guidellm against a fleet: it asks for the server's health, and then measures it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.clients.conftest import WRITER
from tests.clients.installs import INSTALLING, python_client_with_torch, run_client
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient

pytestmark = INSTALLING
REQUESTS = 6


def test_a_benchmark_runs_and_counts_the_tokens_of_every_request(
    agent: AgentClient, engine: FakeEngineProcess, tmp_path: Path
) -> None:
    bin_dir = python_client_with_torch("guidellm")
    rows = [{"prompt": f"hello {number}", "output_tokens_count": 8} for number in range(REQUESTS)]
    (tmp_path / "prompts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    backend = f"kind=openai_http,target={agent.url},model={WRITER},api_key={agent.api_key}"
    done = run_client(
        [
            *(bin_dir / "guidellm", "run", "--disable-console"),
            *("--backend", backend, "--profile", "kind=concurrent,streams=2"),
            *("--constraint", f"kind=max_requests,count={REQUESTS}"),
            *("--data", "kind=json_file,path=prompts.jsonl"),
            *("--output", "kind=json,path=report.json"),
        ],
        tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (measured,) = json.loads((tmp_path / "report.json").read_text())["benchmarks"]
    totals = measured["metrics"]["request_totals"]
    assert (totals["successful"], totals["errored"]) == (REQUESTS, 0)
    assert measured["metrics"]["output_token_count"]["successful"]["mean"] == 8
    asked = [one["body"] for one in engine.requests() if one["method"] == "POST"]
    assert len(asked) == REQUESTS
    assert {body["max_completion_tokens"] for body in asked} == {8}
