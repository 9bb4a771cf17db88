"""The environment and the model, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import real_engine


@pytest.fixture(scope="session")
def engine_environment() -> Path:
    return real_engine.engine_environment()


@pytest.fixture(scope="session")
def small_model_dir(engine_environment: Path) -> Path:
    return real_engine.small_model_dir()
