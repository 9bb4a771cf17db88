"""Commands are run as typed, shown with the fleet's folder, and their failures said."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from coordinator.devfleet import public_commands
from coordinator.devfleet.layout import FleetLayout
from coordinator.devfleet.public_commands import PublicCommands
from protos.domain.errors import EdgeForgeError


@pytest.fixture
def layout(tmp_path: Path) -> FleetLayout:
    return FleetLayout(tmp_path / ".edgeforge")


@pytest.fixture
def edgeforge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a program in the place of ``edgeforge``; its body is Python."""

    def put(body: str) -> None:
        path = tmp_path / "edgeforge"
        path.write_text(f"#!{sys.executable}\nimport json, sys, time\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(public_commands, "program", lambda _name: str(path))

    return put


def test_a_command_gets_the_profile_and_is_shown_as_typed(layout: FleetLayout, edgeforge) -> None:
    typed = layout.root.with_name("typed")
    edgeforge(f"open({str(typed)!r}, 'w').write(json.dumps(sys.argv[1:])); print('a/b@1: llama')")
    said: list[str] = []
    folder = str(layout.root / "weights" / "a b")
    PublicCommands(layout, said.append).run("model", "import", folder, "--name", "a/b@1")
    profile = ["--profile", str(layout.profile)]
    got = json.loads(typed.read_text())
    assert got == [*profile, "model", "import", folder, "--name", "a/b@1"]
    assert said == [
        "$ edgeforge model import '.edgeforge/weights/a b' --name a/b@1",
        "  a/b@1: llama",
    ]


def test_a_listing_is_not_shown(layout: FleetLayout, edgeforge) -> None:
    edgeforge("print(json.dumps([{'name': 'a/b@1'}, {'name': sys.argv[3]}]))")
    said: list[str] = []
    assert PublicCommands(layout, said.append).names("adapter") == {"a/b@1", "adapter"}
    assert said == []


def test_a_listing_without_names_is_an_error(layout: FleetLayout, edgeforge) -> None:
    for printed in ("[{}]", "done", "[1]", "1"):
        edgeforge(f"print({printed!r})")
        with pytest.raises(EdgeForgeError, match="model ls printed no list of names"):
            PublicCommands(layout, lambda _line: None).names("model")


def test_a_deployment_is_listed_beside_its_state(layout: FleetLayout, edgeforge) -> None:
    edgeforge("print(json.dumps([{'deployment': {'name': 'chat'}, 'served': True}]))")
    assert PublicCommands(layout, lambda _line: None).names("deploy") == {"chat"}


def test_what_a_failing_command_said_is_the_error(layout: FleetLayout, edgeforge) -> None:
    edgeforge("sys.exit('error: rank 4096 is above 64')")
    with pytest.raises(EdgeForgeError, match="adapter import failed: error: rank 4096 is above 64"):
        PublicCommands(layout, lambda _line: None).run("adapter", "import", "x")


def test_a_command_that_does_not_end_is_given_up(
    layout: FleetLayout, edgeforge, monkeypatch: pytest.MonkeyPatch
) -> None:
    edgeforge("time.sleep(60)")
    monkeypatch.setattr(public_commands, "TIMEOUT_S", 0.2)
    with pytest.raises(EdgeForgeError, match="deploy create has not ended in 0 s"):
        PublicCommands(layout, lambda _line: None).run("deploy", "create", "x")
