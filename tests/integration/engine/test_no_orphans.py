"""Whatever kills whom: nothing of an engine stays."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.engine.guard import boot_id, read_stat
from agent.engine.leftovers import clear_leftovers
from protos.domain.errors import EngineFailed
from tests.support.engine_host import EngineHost
from tests.support.fake_vllm import fake_environment, family
from tests.support.waiting import wait_until

pytestmark = pytest.mark.parametrize("detached", [False, True], ids=["attached", "detached"])


@pytest.fixture
def environment(tmp_path: Path, detached: bool) -> Path:
    return fake_environment(tmp_path / "env", detached=detached)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "engine"


class Hosts(contextlib.ExitStack):
    """Starts agents to be killed; ends whatever is left of them."""

    def start(self, environment: Path, state_dir: Path, loop: str = "asyncio") -> EngineHost:
        return self.enter_context(EngineHost(environment, state_dir, loop=loop))


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with Hosts() as stack:
        yield stack


def guard_pid(state_dir: Path) -> int:
    return int(json.loads((state_dir / "engine.json").read_text())["guard_pid"])


def gone(environment: Path) -> None:
    wait_until(lambda: not family(environment), 30, "the whole family is gone")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_agent_is_killed(hosts: Hosts, environment: Path, state_dir: Path, loop: str) -> None:
    host = hosts.start(environment, state_dir, loop)
    host.until("ready")
    wait_until(lambda: len(family(environment)) == 5, 30, "the family is there")
    host.kill()
    gone(environment)


def test_the_agent_is_killed_and_the_engine_is_deaf(
    hosts: Hosts, environment: Path, state_dir: Path, detached: bool
) -> None:
    fake_environment(environment, detached=detached, deaf=True)
    host = hosts.start(environment, state_dir)
    host.until("ready")
    host.kill()
    gone(environment)


def test_the_agent_is_killed_while_the_engine_starts(
    hosts: Hosts, environment: Path, state_dir: Path, detached: bool
) -> None:
    fake_environment(environment, detached=detached, mute=True)
    host = hosts.start(environment, state_dir)
    host.until("starting")
    wait_until(lambda: len(family(environment)) == 5, 30, "the family is there")
    host.kill()
    gone(environment)


def test_the_agent_is_asked_to_end(hosts: Hosts, environment: Path, state_dir: Path) -> None:
    host = hosts.start(environment, state_dir)
    host.until("ready")
    host.close()
    assert host.process.returncode == 0
    assert family(environment) == []
    assert not (state_dir / "engine.json").exists()


def test_the_guard_is_killed(hosts: Hosts, environment: Path, state_dir: Path) -> None:
    host = hosts.start(environment, state_dir)
    host.until("ready")
    before = set(family(environment))
    os.kill(guard_pid(state_dir), signal.SIGKILL)
    assert host.until("backoff")["last_error"] == "its guard was killed by signal 9"
    assert not before & set(family(environment))
    assert host.until("ready")["generation"] == 2
    host.close()
    assert family(environment) == []


def test_agent_and_guard_are_killed_and_the_next_agent_cleans_up(
    hosts: Hosts, environment: Path, state_dir: Path
) -> None:
    host = hosts.start(environment, state_dir)
    host.until("ready")
    before = set(family(environment))
    # Frozen first, so that the guard cannot act on the agent's death before its own.
    os.kill(guard_pid(state_dir), signal.SIGSTOP)
    host.kill()
    os.kill(guard_pid(state_dir), signal.SIGKILL)
    assert before & set(family(environment)), "nothing was left to clean up"
    second = hosts.start(environment, state_dir)
    assert second.until("ready")["generation"] == 1
    assert not before & set(family(environment))
    second.close()


def test_a_guard_that_lives_is_asked_to_do_it(
    hosts: Hosts, environment: Path, state_dir: Path
) -> None:
    host = hosts.start(environment, state_dir)
    host.until("ready")
    assert clear_leftovers(state_dir / "engine.json") >= 1
    assert host.until("backoff")
    host.close()
    assert family(environment) == []


def record_of(process: subprocess.Popen[bytes], **other: object) -> str:
    stat = read_stat(process.pid)
    assert stat is not None
    record = {
        "boot_id": boot_id(),
        "run": "another",
        "guard_pid": process.pid,
        "guard_start_ticks": stat.start_ticks,
        "engine_pid": process.pid,
        "engine_start_ticks": stat.start_ticks,
    }
    return json.dumps(record | other)


def test_what_is_recorded_is_ended(tmp_path: Path, detached: bool) -> None:
    with stranger(new_session=detached) as process:
        path = tmp_path / "engine.json"
        path.write_text(record_of(process))
        # As the kernel sees it, an ended child stays until its parent has looked.
        assert clear_leftovers(path) == 1
        assert process.wait(30) == -signal.SIGQUIT


def test_what_does_not_end_is_said_and_stays_recorded(
    tmp_path: Path, detached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.engine.leftovers.CLEAR_TIMEOUT_S", 0.1)
    monkeypatch.setattr("agent.engine.leftovers.send_signal", lambda _pid, _number: None)
    with stranger(new_session=detached) as process:
        path = tmp_path / "engine.json"
        path.write_text(record_of(process))
        with pytest.raises(EngineFailed, match=f"{process.pid}.* do not end"):
            clear_leftovers(path)
        assert path.exists()


@pytest.mark.parametrize(
    "other",
    [{"boot_id": "another"}, {"guard_start_ticks": 1, "engine_start_ticks": 1}],
    ids=["another boot", "a pid that has become somebody else's"],
)
def test_a_stranger_with_a_recorded_pid_is_left_alone(
    tmp_path: Path, detached: bool, other: dict[str, object]
) -> None:
    with stranger(new_session=detached) as process:
        path = tmp_path / "engine.json"
        path.write_text(record_of(process, **other))
        assert clear_leftovers(path) == 0
        assert process.poll() is None
        assert not path.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"boot_id": 1}'])
def test_a_damaged_record_is_dropped(tmp_path: Path, text: str, detached: bool) -> None:
    path = tmp_path / "engine.json"
    path.write_text(text)
    assert clear_leftovers(path) == 0
    assert not path.exists()


class stranger:
    """A process of somebody else."""

    def __init__(self, *, new_session: bool) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", "input()"],
            stdin=subprocess.PIPE,
            start_new_session=new_session,
        )

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self._process

    def __exit__(self, *_error: object) -> None:
        self._process.communicate()
