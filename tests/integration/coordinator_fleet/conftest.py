"""A coordinator process, its operator, and agents by script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.coordinator_process import CoordinatorProcess, Operator

#: Fast health, so that tests of it take seconds.
FAST_HEALTH = "[health]\nstatus_interval_ms = 200\nlease_ms = 4000\nprobe_fresh_ms = 4000\n"


@pytest.fixture
def coordinator(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[CoordinatorProcess]:
    """Initialised and serving; parametrise indirectly with further TOML."""
    process = CoordinatorProcess(tmp_path, getattr(request, "param", ""))
    process.init_here()
    process.start()
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture
async def operator(coordinator: CoordinatorProcess) -> AsyncIterator[Operator]:
    one = Operator(coordinator)
    await one.create_pop("GRU")
    yield one
    await one.close()
