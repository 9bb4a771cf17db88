"""The JDK's HttpClient against a fleet: by default it offers to go on in HTTP/2, with a body."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.clients.conftest import WRITER
from tests.clients.installs import HERE, run_client, tool
from tests.clients.test_openai_python import TEXT
from tests.support.fleet import AgentClient

CLIENT = "the JDK's HttpClient"


def test_an_offer_of_h2c_is_passed_over_and_the_request_answered(
    agent: AgentClient, tmp_path: Path
) -> None:
    javac, java = tool(CLIENT, "javac"), tool(CLIENT, "java")
    subprocess.run([javac, "-d", tmp_path, HERE / "JdkTurns.java"], check=True, timeout=120)
    argv = [java, "-cp", tmp_path, "JdkTurns", agent.url, agent.api_key, WRITER]
    done = run_client(argv, tmp_path)
    assert done.returncode == 0, done.stderr
    whole, streamed, listed = [line.split("\t", 2) for line in done.stdout.splitlines()]
    assert (whole[0], whole[1]) == ("200", "HTTP_1_1"), whole
    assert json.loads(whole[2])["choices"][0]["message"]["content"] == TEXT
    assert streamed[0] == "200"
    assert streamed[2].rstrip("|").endswith("data: [DONE]")
    assert (listed[0], WRITER in listed[2]) == ("200", True)
