"""Fleets of real processes in front of fake engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


@pytest.fixture(scope="session")
def engine() -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess("acme-chat") as process:
        yield process


@pytest.fixture(scope="session")
def shared_fleet(
    engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("f"), [engine.url]) as running:
        yield running


@pytest.fixture(scope="module")
def fleet(shared_fleet: Fleet) -> Fleet:
    """IAD with the engine, GRU without; one for all modules that leave its settings alone.

    A module whose tests change settings, or count everything, takes ``own_fleet``.
    """
    for agent in shared_fleet.agents():
        linked = lambda agent=agent: agent.status()["link"]["connected"]  # noqa: E731
        wait_until(linked, 60, f"{agent.node} to be connected")
        shared_fleet.wait_caught_up(agent.node)
    return shared_fleet


@pytest.fixture(scope="module")
def own_fleet(
    engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """The same fleet, for one module alone."""
    with Fleet(tmp_path_factory.mktemp("o"), [engine.url]) as running:
        yield running


@pytest.fixture(autouse=True)
def obedient(engine: FakeEngineProcess) -> None:
    """Every test starts with an engine that behaves."""
    engine.control()
    engine.forget()
