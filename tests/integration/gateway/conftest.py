"""One fleet of real processes for all that leaves it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet

APP_ORIGIN = "https://app.example.com"
#: What the engine is started with: less than the 2,048 tokens of its model.
SERVED_TOKENS = 1_024


@pytest.fixture(scope="session")
def engine() -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess("acme-chat") as process:
        yield process


@pytest.fixture(scope="session")
def fleet(engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """IAD with the engine, GRU without; pages of one origin may read responses."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as environment:  # for this fleet's start alone
            environment.setenv("EDGEFORGE_AGENT__CLIENT__CORS_ORIGINS", APP_ORIGIN)
            environment.setenv("EDGEFORGE_AGENT__ENGINE__MAX_CONTEXT_TOKENS", str(SERVED_TOKENS))
            running = stack.enter_context(Fleet(tmp_path_factory.mktemp("g"), [engine.url]))
        yield running


@pytest.fixture(autouse=True)
def obedient(engine: FakeEngineProcess) -> None:
    engine.control()
    engine.forget()
