"""Spools whose pauses are short."""

from __future__ import annotations

import pytest

import agent.spool.commit
import agent.spool.spool


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.spool.commit, "PROBE_S", 0.05)
    monkeypatch.setattr(agent.spool.spool, "NOTE_DELAY_S", 0.005)
