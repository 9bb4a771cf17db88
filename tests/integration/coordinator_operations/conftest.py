from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.operations.operations import Operations
from tests.support.operations import OperatedFleet, operated_fleet


@pytest.fixture
async def operated(tmp_path: Path) -> AsyncIterator[tuple[OperatedFleet, Operations]]:
    async with operated_fleet(tmp_path) as pair:
        yield pair


@pytest.fixture
def fleet(operated) -> OperatedFleet:
    return operated[0]


@pytest.fixture
def ops(operated) -> Operations:
    return operated[1]
