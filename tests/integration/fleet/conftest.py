"""Fleets of real processes in front of fake engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess("acme-chat") as process:
        yield process


@pytest.fixture(scope="module")
def fleet(engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """IAD with the engine, GRU without."""
    with Fleet(tmp_path_factory.mktemp("f"), [engine.url]) as running:
        yield running


@pytest.fixture(autouse=True)
def obedient(engine: FakeEngineProcess) -> None:
    """Every test starts with an engine that behaves."""
    engine.control()
    engine.forget()
