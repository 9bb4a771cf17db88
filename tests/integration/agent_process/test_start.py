"""What keeps an agent from starting: one message each, a next step, exit status 78."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.support.agent_process import AgentProcess

MakeAgent = Callable[..., AgentProcess]
MakeToken = Callable[..., str]


def refused(agent: AgentProcess) -> str:
    """Serve in vain and return the one message."""
    done = agent.command("serve")
    assert done.returncode == 78, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("section", ["client", "peer", "metrics"])
def test_port_in_use_is_one_message_that_names_it(
    make_agent: MakeAgent, token: MakeToken, section: str
) -> None:
    agent = make_agent()
    assert agent.enroll(token()).returncode == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", agent.ports[section]))
        taken.listen()
        said = refused(agent)
    assert f"{section}.port" in said
    assert str(agent.ports[section]) in said


def test_no_engine_environment_says_how_to_install_one(
    make_agent: MakeAgent, token: MakeToken
) -> None:
    agent = make_agent(extra='[engine]\nkind = "vllm"\nvenv = "/nowhere/at/all"\n')
    assert agent.enroll(token()).returncode == 0
    said = refused(agent)
    assert "/nowhere/at/all" in said
    assert "packaging/engine/install" in said


def test_three_mistakes_in_the_configuration_are_all_named(make_agent: MakeAgent) -> None:
    agent = make_agent(extra='[engine]\nkind = "magic"\n[limits]\nmax_n = 0\nmax_pulls = "x"\n')
    said = refused(agent)
    for key in ("engine.kind", "limits.max_n", "limits.max_pulls"):
        assert key in said
    assert "docs/CONFIG.md" in said


def test_a_host_that_is_not_enrolled_says_how_to_enrol(make_agent: MakeAgent) -> None:
    assert "edgeforge-agent enroll" in refused(make_agent())


def test_two_agents_never_share_a_state_folder(make_agent: MakeAgent, token: MakeToken) -> None:
    agent = make_agent()
    assert agent.enroll(token()).returncode == 0
    agent.start()
    assert "held by another agent" in refused(agent)
    assert agent.stop() == 0


def test_commands_to_an_agent_that_does_not_run_say_so(make_agent: MakeAgent) -> None:
    agent = make_agent()
    for command in ("status", "drain"):
        done = agent.command(command)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "edgeforge-agent serve" in done.stderr or "not running" in done.stderr


def test_doctor_names_what_is_missing_and_its_next_step(make_agent: MakeAgent) -> None:
    done = make_agent().command("doctor", "--json")
    assert done.returncode == 1
    import json

    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert not findings["identity"]["ok"]
    assert "enroll" in findings["identity"]["next_step"]
    assert findings["ports"]["ok"]
    assert findings["engine"]["ok"]


def test_every_command_teaches() -> None:
    import subprocess

    from tests.support.agent_process import COMMAND

    for command in ("serve", "enroll", "doctor", "status", "drain"):
        done = subprocess.run(
            [COMMAND, command, "--help"], capture_output=True, text=True, timeout=60, check=True
        )
        assert "Example: edgeforge-agent" in done.stdout
