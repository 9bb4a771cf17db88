"""What a service manager is told, over a real socket."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from protos.host.service_manager import notify_ready, notify_stopping


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_readiness_and_the_stop_are_told_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(10)
        manager.bind(path if kind == "path" else "\0" + path)
        monkeypatch.setenv("NOTIFY_SOCKET", path if kind == "path" else "@" + path)
        notify_ready()
        notify_stopping()
        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"STOPPING=1"


def test_without_a_manager_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify_ready()


def test_a_manager_that_is_gone_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify_ready()
    assert "READY=1" in caplog.text
