"""``edgeforge up`` and ``down``, as a newcomer and as a script use them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import COMMANDS, Fleet
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess("acme-chat") as process:
        yield process


@pytest.fixture
def fleet(engine: FakeEngineProcess, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path / "fleet", [engine.url]) as running:
        yield running


def edgeforge(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMANDS / "edgeforge"), *argv],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def customers_steps(printed: str) -> tuple[str, str]:
    """Return the commands that ``edgeforge up`` names for a customer."""
    lines = printed.replace("\\\n", " ").splitlines()
    (signed_up,) = [line.strip() for line in lines if "/v1/sign-up" in line]
    (granted,) = [line.strip() for line in lines if "credit grant" in line]
    return signed_up, granted


def test_up_prints_exactly_the_promised_json(fleet: Fleet) -> None:
    facts = fleet.facts
    assert set(facts) == {"api_key", "coordinator", "agents", "deployments"}
    assert set(facts["coordinator"]) == {"grpc", "http", "pid"}
    assert [agent["node"] for agent in facts["agents"]] == ["iad-1", "gru-1"]
    assert [agent["pop"] for agent in facts["agents"]] == ["IAD", "GRU"]
    assert [agent["tier"] for agent in facts["agents"]] == ["central", "edge"]
    for agent in facts["agents"]:
        assert set(agent) == {"node", "pop", "tier", "url", "admin", "pid"}
    assert facts["deployments"] == [{"name": "acme-chat", "ttft_budget_ms": 1000}]


def test_a_second_up_prints_the_same_and_changes_nothing(fleet: Fleet) -> None:
    before = fleet.facts
    assert fleet.up() == before


def test_up_on_a_fleet_that_was_started_detached_prints_its_state_and_leaves(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    """It stayed, said that Ctrl-C stops the fleet, and stopped it."""
    before = fleet.processes()
    attached = ("up", "--engine-url", engine.url, "--state-dir", str(fleet.state_dir))
    done = edgeforge(*attached)
    assert done.returncode == 0, done.stderr
    assert "Ctrl-C" not in done.stderr
    for name in ("coordinator", "iad-1", "gru-1"):
        assert f"{name}: pid " in done.stderr
    assert "Stop it:" in done.stdout
    # The next steps, as printed: whoever runs them has signed up and has credit.
    signed_up, granted = customers_steps(done.stdout)
    made = subprocess.run(signed_up, shell=True, capture_output=True, check=True, timeout=60)
    assert json.loads(made.stdout)["account"] == "initech"
    fleet.edgeforge(*shlex.split(granted)[1:])
    assert "initech" in fleet.edgeforge("credit", "ls")
    fleet.edgeforge("invoice", "preview", "--account", "default")
    assert fleet.processes() == before
    fleet.kill("gru-1")
    done = edgeforge(*attached)
    assert done.returncode == 0, done.stderr
    assert "Ctrl-C" not in done.stderr
    assert fleet.agent("gru-1").chat().status == 200


def test_up_starts_again_only_what_fell(fleet: Fleet) -> None:
    before = fleet.facts
    pid = fleet.pid("gru-1")
    fleet.kill("gru-1")
    after = fleet.up()
    assert after["coordinator"] == before["coordinator"]
    assert after["agents"][0] == before["agents"][0]
    assert after["agents"][1]["pid"] != pid
    assert fleet.agent("gru-1").chat().status == 200


def test_down_leaves_no_process_and_the_next_up_keeps_the_key(fleet: Fleet) -> None:
    before = fleet.facts
    fleet.down()
    assert fleet.processes() == []
    after = fleet.up()
    assert after["api_key"] == before["api_key"]
    assert fleet.agent("gru-1").chat().status == 200


def test_down_ends_everything_after_an_agent_was_killed(fleet: Fleet) -> None:
    fleet.kill("iad-1")
    fleet.down()
    assert fleet.processes() == []


def test_each_engine_url_gets_an_agent_and_one_model_is_one_deployment(
    engine: FakeEngineProcess, tmp_path: Path
) -> None:
    with (
        FakeEngineProcess("acme-chat") as second,
        FakeEngineProcess("acme-code") as third,
        Fleet(tmp_path / "fleet", [engine.url, second.url, third.url]) as fleet,
    ):
        assert [agent["node"] for agent in fleet.facts["agents"]] == ["iad-1", "gru-1", "iad-2"]
        names = [deployment["name"] for deployment in fleet.facts["deployments"]]
        assert names == ["acme-chat", "acme-code"]
        listed = json.loads(fleet.edgeforge("deployment", "ls", "--json"))
        nodes = {info["deployment"]["name"]: info["node_ids"] for info in listed}
        assert nodes == {"acme-chat": ["gru-1", "iad-1"], "acme-code": ["iad-2"]}


def test_an_engine_url_that_does_not_answer_is_one_message_with_a_next_step(
    tmp_path: Path,
) -> None:
    done = edgeforge(
        "up", "--detach", "--engine-url", "http://127.0.0.1:9", "--state-dir", str(tmp_path / "f")
    )
    assert done.returncode == 1
    assert "--engine-url http://127.0.0.1:9" in done.stderr
    assert "start the server first" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_engine_environment_is_one_message_and_exit_78(tmp_path: Path) -> None:
    done = edgeforge(
        *("up", "--detach", "--state-dir", str(tmp_path / "f")),
        *("--engine-venv", str(tmp_path / "absent")),
    )
    assert done.returncode == 78
    assert "no engine environment" in done.stderr
    assert "packaging/engine/install" in done.stderr


def test_another_fleet_in_a_running_ones_folder_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    with FakeEngineProcess("other") as other:
        done = edgeforge(
            *("up", "--detach", "--engine-url", other.url),
            *("--state-dir", str(fleet.state_dir)),
        )
    assert done.returncode == 1
    assert "edgeforge down" in done.stderr


def test_in_the_foreground_control_c_stops_the_fleet(
    engine: FakeEngineProcess, tmp_path: Path
) -> None:
    state_dir = tmp_path / "fleet"
    process = subprocess.Popen(
        [
            *(str(COMMANDS / "edgeforge"), "up", "--engine-url", engine.url),
            *("--state-dir", str(state_dir)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any("Ctrl-C stops" in line for line in lines)
        # A second one beside it leaves, and the first stays in charge.
        done = edgeforge("up", "--engine-url", engine.url, "--state-dir", str(state_dir))
        assert done.returncode == 0, done.stderr
        assert "goes on" in done.stderr
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    fleet = Fleet(state_dir, [engine.url])
    wait_until(lambda: not fleet.processes(), 20, "everything to be gone")


def test_the_unmodified_openai_client_works_through_both_agents(fleet: Fleet) -> None:
    for agent in fleet.agents():
        with openai.OpenAI(
            base_url=f"{agent.url}/v1", api_key=agent.api_key, max_retries=0
        ) as client:
            assert [model.id for model in client.models.list()] == ["acme-chat"]
            whole = client.chat.completions.create(
                model="acme-chat", messages=[{"role": "user", "content": "hi"}]
            )
            assert whole.choices[0].message.content == "t0 t1 t2 t3 t4 t5 t6 t7"
            stream = client.chat.completions.create(
                model="acme-chat", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            assert text == "t0 t1 t2 t3 t4 t5 t6 t7"
            with pytest.raises(openai.NotFoundError):
                client.chat.completions.create(model="nobody", messages=[])


def test_route_explain_names_every_candidate_with_terms_and_verdict(fleet: Fleet) -> None:
    shown = fleet.edgeforge(
        "route", "explain", "--deployment", "acme-chat", "--via", "GRU", "--budget-ms", "5000"
    )
    for word in ("iad-1", "central", "rtt", "queue", "prefill", "engine", "cheapest that fits"):
        assert word in shown
    missed = json.loads(
        fleet.edgeforge(
            *("route", "explain", "--deployment", "acme-chat", "--via", "GRU"),
            *("--budget-ms", "1", "--json"),
        )
    )
    assert missed["predicted_miss"] is True


def test_an_unknown_deployment_or_via_says_what_to_do(fleet: Fleet) -> None:
    profile = str(fleet.state_dir / "profile.toml")
    for argv in (
        ("route", "explain", "--deployment", "nobody", "--via", "GRU"),
        ("route", "explain", "--deployment", "acme-chat", "--via", "XYZ"),
    ):
        done = edgeforge(*argv, EDGEFORGE_PROFILE=profile)
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 2, done.stderr


def test_the_command_line_reads_and_changes_every_noun(fleet: Fleet) -> None:
    for argv in (
        ("pop", "ls"),
        ("node", "ls"),
        ("node", "show", "iad-1"),
        ("model", "ls"),
        ("deployment", "ls"),
        ("deployment", "show", "acme-chat"),
        ("account", "ls"),
        ("key", "ls"),
        ("price", "ls"),
        ("audit", "ls"),
    ):
        assert fleet.edgeforge(*argv).strip()
        json.loads(fleet.edgeforge(*argv, "--json"))
    assert fleet.edgeforge("table", "force", "topology").startswith("sent to 2 agents")
