"""A coordinator process, and agents as their hosts' operators start them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.agent_process import COMMAND, AgentProcess
from tests.support.coordinator_process import CoordinatorProcess

Edgeforge = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    process = CoordinatorProcess(tmp_path_factory.mktemp("c"))
    process.init_here()
    process.start()
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="module")
def edgeforge(coordinator: CoordinatorProcess) -> Edgeforge:
    """The operator's command line."""
    command = COMMAND.with_name("edgeforge")
    profile = coordinator.operator_dir / "profile.toml"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [command, *arguments],
            env={"EDGEFORGE_PROFILE": str(profile), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    where = ("--latitude=-23.43", "--longitude=-46.47")
    made = run("pop", "create", "GRU", "--tier", "edge", "--zone", "BR", *where)
    assert made.returncode == 0, made.stderr
    return run


@pytest.fixture
def token(edgeforge: Edgeforge) -> Callable[..., str]:
    """Make enrolment tokens."""

    def make(*options: str) -> str:
        done = edgeforge("node", "token", "create", "--pop", "GRU", *options)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return make


@pytest.fixture
def make_agent(
    coordinator: CoordinatorProcess, tmp_path: Path
) -> Iterator[Callable[..., AgentProcess]]:
    """Make agents that know the coordinator's address; all are stopped at the end."""
    with contextlib.ExitStack() as stack:

        def make(name: str = "a", extra: str = "") -> AgentProcess:
            agent = AgentProcess(
                tmp_path / name, enrolment=coordinator.address("enrolment"), extra=extra
            )
            stack.callback(agent.stop)
            return agent

        yield make
