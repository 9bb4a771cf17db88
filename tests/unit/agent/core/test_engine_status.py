"""An engine's status and endpoint, which differ between processes."""

from __future__ import annotations

import dataclasses

import pytest

from agent.core.engine_status import EngineEndpoint, EngineState, EngineStatus

ENDPOINT = EngineEndpoint("acme/m@1", "/run/engine-1.sock", None, None, False, True)


def test_endpoints_of_two_processes_differ_so_that_connections_are_made_anew() -> None:
    assert dataclasses.replace(ENDPOINT) == ENDPOINT
    assert dataclasses.replace(ENDPOINT, uds_path="/run/engine-2.sock") != ENDPOINT
    assert dataclasses.replace(ENDPOINT, model="acme/m@2") != ENDPOINT


def test_a_status_is_immutable() -> None:
    status = EngineStatus(EngineState.READY, ENDPOINT, 1, 0, 0.0, None, 42)
    with pytest.raises(dataclasses.FrozenInstanceError):
        status.state = EngineState.FAILED  # type: ignore[misc]


def test_states_are_words_that_status_and_metrics_show() -> None:
    assert {str(state) for state in EngineState} == {
        *("absent", "starting", "warming", "ready", "stopping", "backoff", "failed")
    }
