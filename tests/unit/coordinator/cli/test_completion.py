"""Completion in a shell: every name of the fleet, and silence when anything goes wrong."""

from __future__ import annotations

import contextlib

import pytest
import typer.main

from coordinator.cli import completion
from coordinator.cli.client import AdminClient
from coordinator.cli.main import app
from protos.domain.errors import LinkDown
from protos.v1 import admin_pb2, resources_pb2

#: Parameters that name something of the fleet, and the commands where they name something new.
NAMES = {"node", "pop", "deployment", "model", "account", "key", "via"}
NEW = {
    ("pop create", "pop"),
    ("account create", "account"),
    ("node token create", "node"),
}


def parameters(words, command):
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from parameters(f"{words} {name}".strip(), below)
    else:
        for parameter in command.params:
            yield words, parameter


ALL = list(parameters("", typer.main.get_command(app)))


@pytest.mark.parametrize(
    ("words", "parameter"),
    [
        pytest.param(words, one, id=f"{words} {one.name}")
        for words, one in ALL
        if one.name in NAMES and (words, one.name) not in NEW
    ],
)
def test_every_parameter_that_names_something_of_the_fleet_is_completed(words, parameter):
    assert parameter._custom_shell_complete is not None


class Context:
    """What typer hands a completer."""

    def __init__(self, profile=None):
        self.params = {"profile": profile}

    def find_root(self):
        return self


@pytest.fixture
def fleet(monkeypatch):
    """A coordinator that lists what a test sets, or fails."""
    answers: dict[str, object] = {}

    class Stub:
        def __getattr__(self, name):
            return name

    class Client(AdminClient):
        def __init__(self):
            pass

        def call(self, method, request, timeout_s):
            assert timeout_s <= 1.0
            answer = answers[method(Stub())]
            if isinstance(answer, BaseException):
                raise answer
            return answer

    @contextlib.contextmanager
    def connected(profile):
        yield Client()

    monkeypatch.setattr(completion, "connected", connected)
    monkeypatch.setattr(completion, "load_profile", lambda path: path)
    monkeypatch.setattr(completion, "find_profile", lambda *args: args[0])
    return answers


def test_names_that_start_with_what_was_typed(fleet):
    fleet["ListPops"] = admin_pb2.ListPopsResponse(
        pops=[resources_pb2.Pop(id=one) for one in ("GRU", "GIG", "IAD")]
    )
    assert completion.pops(Context(), "G") == ["GRU", "GIG"]
    assert completion.pops(Context(), "") == ["GRU", "GIG", "IAD"]
    assert completion.pops(Context(), "x") == []


def test_a_hostile_name_never_reaches_the_shell(fleet):
    hostile = [
        "a$(reboot)",
        "a`id`",
        "a;b",
        "a\nb",
        "a b",
        "a'",
        'a"',
        "a[0]",
        "-a",
        "a\x1b",
        "a\\",
    ]
    fleet["ListPops"] = admin_pb2.ListPopsResponse(
        pops=[resources_pb2.Pop(id=one) for one in [*hostile, "acme/small@1"]]
    )
    assert completion.pops(Context(), "") == ["acme/small@1"]


def test_a_revoked_operator_is_not_offered(fleet):
    fleet["ListOperators"] = admin_pb2.ListOperatorsResponse(
        operators=[
            admin_pb2.OperatorInfo(name="ana"),
            admin_pb2.OperatorInfo(name="al", revoked_unix_ms=1),
        ]
    )
    assert completion.operators(Context(), "a") == ["ana"]


@pytest.mark.parametrize("error", [LinkDown("no"), RuntimeError("bug"), KeyError("x")])
def test_nothing_is_printed_or_raised_whatever_goes_wrong(fleet, error, capfd):
    fleet["ListNodes"] = error
    assert completion.nodes(Context(), "g") == []
    assert capfd.readouterr() == ("", "")


def test_without_a_profile_nothing_is_completed(monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EDGEFORGE_PROFILE", raising=False)
    assert completion.nodes(Context(), "") == []
    assert completion.contexts("") == []
    assert capfd.readouterr() == ("", "")
