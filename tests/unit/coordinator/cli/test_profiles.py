"""Contexts: private files, written whole; which profile goes first."""

from __future__ import annotations

import stat

import pytest

from coordinator.cli.profiles import Contexts, context_name_of, find_profile, load_profile
from protos.domain.errors import ConfigInvalid, Conflict, InvalidRequest, NotFound


@pytest.fixture
def home(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return tmp_path / "home"


def add(home, name="lab", address="coordinator.example:7402"):
    return Contexts(home).add(
        name, admin_address=address, key_pem=b"KEY", cert_pem=b"CERT", ca_pem=b"CA"
    )


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_context_can_be_read_by_its_owner_only(home):
    profile = add(home)
    files = sorted(profile.parent.iterdir())
    assert [one.name for one in files] == ["ca.pem", "cert.pem", "key.pem", "profile.toml"]
    assert {mode(one) for one in files} == {0o600}
    folders = [profile.parent, profile.parent.parent, profile.parent.parent.parent]
    assert {mode(one) for one in folders} == {0o700}


def test_what_is_written_is_read_back_whatever_the_address_is(home):
    profile = load_profile(add(home, address='a"b\\c:1'))
    assert profile.admin_address == 'a"b\\c:1'
    assert profile.key_file.read_bytes() == b"KEY"
    assert profile.cert_file.read_bytes() == b"CERT"
    assert profile.ca_file.read_bytes() == b"CA"


def test_a_context_is_never_overwritten(home):
    add(home)
    with pytest.raises(Conflict, match="already"):
        add(home)


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "../x", "x" * 64])
def test_a_name_never_leads_out_of_the_folder(home, name):
    contexts = Contexts(home)
    for act in (contexts.profile, contexts.use, contexts.remove, contexts.check_free):
        with pytest.raises(InvalidRequest):
            act(name)


def test_use_and_remove(home):
    contexts = Contexts(home)
    add(home)
    add(home, "work")
    assert (contexts.names(), contexts.current()) == (["lab", "work"], None)
    contexts.use("work")
    assert contexts.current() == "work"
    with pytest.raises(NotFound):
        contexts.use("gone")
    contexts.remove("work")
    assert (contexts.names(), contexts.current()) == (["lab"], None)


def test_a_current_context_that_has_gone_is_none(home):
    add(home)
    contexts = Contexts(home)
    contexts.use("lab")
    (home / ".config/edgeforge/contexts/lab/profile.toml").unlink()
    assert contexts.current() is None


def test_option_then_environment_then_folder_then_context(home, tmp_path):
    contexts = Contexts(home)
    with pytest.raises(ConfigInvalid, match="no coordinator is known"):
        find_profile(None, {}, home)
    profile = add(home)
    contexts.use("lab")
    assert find_profile(None, {}, home) == profile
    local = tmp_path / "elsewhere" / ".edgeforge"
    local.mkdir()
    (local / "profile.toml").write_text("")
    assert find_profile(None, {}, home).resolve() == local / "profile.toml"
    environ = {"EDGEFORGE_PROFILE": "/named/by/environment"}
    assert str(find_profile(None, environ, home)) == "/named/by/environment"
    assert find_profile(tmp_path, environ, home) == tmp_path


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("coordinator.example:7403", "coordinator.example"),
        ("[2001:db8::1]:7403", "2001-db8--1"),
        ("[::1]:7403", "1"),
        (":7403", "coordinator"),
    ],
)
def test_a_context_is_named_after_the_coordinators_host(address, name):
    assert context_name_of(address) == name


def test_what_is_no_context_hides_no_other(home):
    add(home, "lab")
    folder = home / ".config/edgeforge/contexts"
    (folder / "odd" / "profile.toml").mkdir(parents=True)
    (folder / "empty").mkdir()
    assert Contexts(home).names() == ["lab"]


def test_of_two_logins_to_one_context_the_second_is_told_to_choose_another(home, monkeypatch):
    add(home, "lab")
    checks = iter([lambda *_: None, Contexts.check_free])
    monkeypatch.setattr(Contexts, "check_free", lambda self, name: next(checks)(self, name))
    with pytest.raises(Conflict, match="already"):
        add(home, "lab", "other.example:7402")
    assert load_profile(Contexts(home).profile("lab")).admin_address == "coordinator.example:7402"
    assert [one.name for one in (home / ".config/edgeforge/contexts").iterdir()] == ["lab"]
