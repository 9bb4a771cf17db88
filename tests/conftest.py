"""What every test gets: marks by folder, and no sockets outside of ``integration``."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        room = item.path.relative_to(_HERE).parts[0]
        if room in ("integration", "bench"):
            item.add_marker(pytest.mark.integration)
        else:
            item.add_marker(pytest.mark.disable_socket)
        if "engine_real" in item.path.parts:
            item.add_marker(pytest.mark.real_engine)
