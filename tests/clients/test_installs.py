"""What installs the clients: once, again when a pin changes, and a skip by name when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients import installs


@pytest.fixture
def pin(tmp_path: Path) -> Path:
    path = tmp_path / "pins.txt"
    path.write_text("a==1\n")
    return path


def test_a_client_is_installed_once_and_again_when_a_pin_changes(pin: Path, tmp_path: Path) -> None:
    where, log = tmp_path / "client", tmp_path / "log"
    steps = [["sh", "-c", f"echo installed >> {log}"]]
    assert installs.install(where, [pin], steps) is None
    assert installs.install(where, [pin], steps) is None
    assert log.read_text() == "installed\n"
    pin.write_text("a==2\n")
    assert installs.install(where, [pin], steps) is None
    assert log.read_text() == "installed\n" * 2


def test_a_failed_installation_says_why_and_is_begun_anew(pin: Path, tmp_path: Path) -> None:
    where = tmp_path / "client"
    steps = [["touch", "part"], ["sh", "-c", "echo first; echo no such package >&2; exit 1"]]
    assert installs.install(where, [pin], steps) == "no such package"
    assert installs.install(where, [pin], [["test", "!", "-e", "part"]]) is None


def test_an_installation_that_takes_too_long_is_ended(pin: Path, tmp_path: Path) -> None:
    steps = [["true"], ["sleep", "60"]]
    why = installs.install(tmp_path / "client", [pin], steps, timeout_s=0.5)
    assert why is not None
    assert why.startswith("sleep took more than the 0.")


def test_what_is_not_installed_is_skipped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installs, "_python_failure", lambda _client: "no such package")
    reason = "a client cannot be installed here: no such package"
    with pytest.raises(pytest.skip.Exception, match=reason):
        installs.python_client("a client")
    with pytest.raises(
        pytest.skip.Exception, match="a client cannot be installed here: no nothing"
    ):
        installs.tool("a client", "nothing-of-this-name")
