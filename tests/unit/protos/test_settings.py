"""Configuration read from a table and an environment; every mistake in one go."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from protos.domain.errors import ConfigInvalid
from protos.domain.settings import read_settings, setting, tcp_port


@dataclass(frozen=True, slots=True)
class Listener:
    host: str = setting("127.0.0.1")
    port: int = tcp_port(8080)
    wait_ms: float = setting(10.0, at_least=1, at_most=100)
    debug: bool = setting(False)
    zones: tuple[str, ...] = setting(())
    kind: str = setting("a", choices=("a", "b"))
    limit: int | None = setting(None, at_least=2)


@dataclass(frozen=True, slots=True)
class State:
    folder: str = setting()


@dataclass(frozen=True, slots=True)
class Whole:
    state: State
    listener: Listener


def read(parsed=None, **environ):
    return read_settings(Whole, parsed or {"state": {"folder": "/s"}}, environ, "APP")


def problems(parsed=None, **environ):
    with pytest.raises(ConfigInvalid) as raised:
        read(parsed, **environ)
    return raised.value.problems


def with_listener(**keys):
    return {"state": {"folder": "/s"}, "listener": keys}


def test_defaults_apply_where_no_value_is_given():
    whole = read()
    assert whole.state.folder == "/s"
    assert whole.listener == Listener()


def test_the_file_replaces_defaults():
    whole = read(
        with_listener(host="::", port=0, wait_ms=5, debug=True, zones=["BR"], kind="b", limit=2)
    )
    assert whole.listener == Listener("::", 0, 5.0, True, ("BR",), "b", 2)
    assert type(whole.listener.wait_ms) is float


def test_the_environment_replaces_the_file():
    whole = read(
        with_listener(port=1, debug=False),
        APP__LISTENER__PORT="2",
        APP__LISTENER__DEBUG="Yes",
        APP__LISTENER__WAIT_MS="2.5",
        APP__LISTENER__ZONES="BR, EU,",
        APP__LISTENER__HOST="h",
        APP__LISTENER__LIMIT="9",
        APP__STATE__FOLDER="/t",
        OTHER__LISTENER__PORT="3",
        APP_LISTENER_PORT="4",
    )
    assert whole.listener == Listener("h", 2, 2.5, True, ("BR", "EU"), "a", 9)
    assert whole.state.folder == "/t"


def test_every_mistake_is_named_at_once():
    found = problems(
        {"listener": {"prot": 1, "port": 70_000, "kind": "c"}, "listner": {}},
        APP__LISTENER__WAIT_MS="soon",
        APP__STAT__FOLDER="x",
    )
    assert sorted(found) == [
        "APP__STAT__FOLDER: no such section (did you mean 'state'?)",
        "listener.kind: 'c' is none of a, b",
        "listener.port: 70000 is above 65535",
        "listener.prot: unknown key (did you mean 'port'?)",
        "listener.wait_ms: 'soon' is not a number",
        "state.folder: is required",
        "unknown section [listner] (did you mean 'listener'?)",
    ]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("port", "80", "'80' is not a whole number"),
        ("port", 80.5, "80.5 is not a whole number"),
        ("port", True, "True is not a whole number"),
        ("port", -1, "-1 is below 0"),
        ("wait_ms", "x", "'x' is not a number"),
        ("wait_ms", float("nan"), "is not a number"),
        ("wait_ms", 0.5, "0.5 is below 1"),
        ("wait_ms", 101, "101.0 is above 100"),
        ("debug", 1, "1 is not true or false"),
        ("debug", "true", "'true' is not true or false"),
        ("host", 5, "5 is not a text"),
        ("zones", "BR", "'BR' is not a list of texts"),
        ("zones", ["BR", 1], "['BR', 1] is not a list of texts"),
        ("limit", 1, "1 is below 2"),
    ],
)
def test_wrong_values_are_named_with_what_is_wrong(key, value, words):
    assert problems(with_listener(**{key: value})) == [f"listener.{key}: {words}"]


@pytest.mark.parametrize(("name", "text"), [("DEBUG", "maybe"), ("PORT", "x"), ("PORT", "1.5")])
def test_wrong_texts_of_the_environment_are_named(name, text):
    (found,) = problems(None, **{f"APP__LISTENER__{name}": text})
    assert found.startswith(f"listener.{name.lower()}: {text!r} is")


@pytest.mark.parametrize("value", [5, "x", [], None])
def test_a_section_must_be_a_table(value):
    assert problems({"state": {"folder": "/s"}, "listener": value}) == [
        "[listener] must be a table of keys"
    ]


def test_variables_without_a_key_are_mistakes():
    (found,) = problems(None, APP__LISTENER="x")
    assert found.startswith("APP__LISTENER: no such section")


def test_a_text_with_a_nul_is_a_mistake_and_no_traceback_of_the_system():
    assert problems({"state": {"folder": "/s\0"}}) == ["state.folder: has a NUL character"]
    assert problems(with_listener(zones=["BR", "A\0"])) == ["listener.zones: has a NUL character"]
