"""SIGHUP never ends a program, from its first moments on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.agent_process import COMMAND, AgentProcess
from tests.support.coordinator_process import CoordinatorProcess
from tests.support.waiting import wait_until

HANGUP = 1


def catches_hangups(pid: int) -> bool:
    """Whether the process has a handler of its own for SIGHUP."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(mask, 16) & 1 << (HANGUP - 1))


def hang_up_until(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    """Send SIGHUP again and again, from when it is caught until ``ready``."""
    wait_until(lambda: catches_hangups(process.pid), 30, "a handler of SIGHUP")

    def sent() -> bool:
        process.send_signal(HANGUP)
        return ready() or process.poll() is not None

    wait_until(sent, 60, "the program to be ready")
    process.send_signal(HANGUP)
    assert process.poll() is None, "SIGHUP has ended it"


def test_an_agent_is_not_ended_by_sighup_while_it_starts(
    make_agent: Callable[..., AgentProcess], token: Callable[..., str]
) -> None:
    agent = make_agent()
    assert agent.enroll(token()).returncode == 0
    with agent.log.open("ab") as log:
        agent.process = subprocess.Popen(
            [COMMAND, "serve", "--config", agent.config], stderr=log, stdout=log
        )
    hang_up_until(agent.process, lambda: agent.probe("/livez") == 200)
    assert agent.stop() == 0


def test_a_coordinator_ignores_sighup(tmp_path: Path) -> None:
    one = CoordinatorProcess(tmp_path)
    one.init_here()
    out = tmp_path / "out"
    with out.open("wb") as stdout, one.log.open("ab") as log:
        one.process = subprocess.Popen(
            [COMMAND.with_name("edgeforge-coordinator"), "serve", "--json", "--config", one.config],
            stderr=log,
            stdout=stdout,
        )
    hang_up_until(one.process, lambda: b"ready" in out.read_bytes())
    assert one.stop() == 0


@pytest.mark.parametrize("program", ["agent.program", "coordinator.program"])
def test_the_handler_is_there_before_anything_slow_is_imported(program: str) -> None:
    import sys

    script = (
        f"import sys, {program}\n"
        "slow = {'typer', 'rich', 'asyncio', 'grpc', 'cryptography'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
