"""The limit of open files: raised as far as allowed, divided when that is not enough."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from agent.config_file import load_config
from agent.open_files import take_descriptors, wanted_descriptors

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import AgentConfig


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    file = tmp_path / "agent.toml"
    file.write_text(f'[node]\nstate_dir = "{tmp_path}"\n')
    return load_config(file, {})


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The process's limits; the last one counts."""
    now = [(1_024, 1_048_576)]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: now[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _which, given: now.append(given))
    return now


def test_the_limit_is_raised_to_what_the_ports_need(
    config: AgentConfig, limits: list[tuple[int, int]]
) -> None:
    wanted = wanted_descriptors(config)
    assert take_descriptors(config) == wanted
    assert limits[-1] == (wanted.needed, 1_048_576)


def test_a_host_that_allows_too_few_gets_smaller_ports_and_a_line_in_the_log(
    config: AgentConfig, limits: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    limits.append((1_024, 4_096))
    divided = take_descriptors(config)
    assert limits[-1] == (4_096, 4_096)
    assert divided.needed <= 4_096
    assert "too few open files are allowed limit=4096" in caplog.text


def test_a_limit_that_is_high_enough_is_left_alone(
    config: AgentConfig, limits: list[tuple[int, int]]
) -> None:
    limits.append((resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert take_descriptors(config) == wanted_descriptors(config)
    assert len(limits) == 2
