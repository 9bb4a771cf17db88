"""Operators as they work: a real coordinator, real commands, another home, a real shell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from coordinator.ca.authority import CertificateAuthority
from coordinator.clock import now_unix_ms
from coordinator.store.sqlite.backup import copy_database
from coordinator.store.sqlite.connection import connect
from protos.enrolment.keys import key_in, signing_request
from tests.support.coordinator_process import CoordinatorProcess

EDGEFORGE = Path(sys.executable).with_name("edgeforge")
DAY_MS = 24 * 3_600_000


class Machine:
    """An operator's machine: a home of its own, and a folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.here = folder / "here"
        for one in (self.home, self.here):
            one.mkdir(parents=True)
        self.environ = {
            key: value for key, value in os.environ.items() if not key.startswith("EDGEFORGE")
        } | {"HOME": str(self.home)}

    def run(self, *arguments, stdin="", **environ):
        """Run ``edgeforge`` to its end."""
        return subprocess.run(
            [EDGEFORGE, *map(str, arguments)],
            cwd=self.here,
            env=self.environ | environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ok(self, *arguments, **kwargs) -> str:
        """Run a command that succeeds, and return its output."""
        done = self.run(*arguments, **kwargs)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments, **kwargs) -> str:
        """Run a command that fails, and return what it says."""
        done = self.run(*arguments, **kwargs)
        assert done.returncode != 0, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr

    def context_file(self, context: str, file: str) -> Path:
        return self.home / ".config/edgeforge/contexts" / context / file


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory) -> Iterator[CoordinatorProcess]:
    process = CoordinatorProcess(tmp_path_factory.mktemp("coordinator"))
    process.init()
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def host(coordinator, tmp_path_factory) -> Machine:
    """The first admin, on the coordinator's host."""
    machine = Machine(tmp_path_factory.mktemp("host"))
    machine.environ["EDGEFORGE_PROFILE"] = str(coordinator.operator_dir / "profile.toml")
    place = "--tier edge --zone BR --latitude 0 --longitude 0"
    machine.ok("pop", "create", "GRU", *place.split())
    return machine


@pytest.fixture
def laptop(tmp_path) -> Machine:
    return Machine(tmp_path)


def invite(host, name, role="operator") -> str:
    return host.ok("operator", "invite", name, "--role", role, "--local").strip()


def log_in(coordinator, host, laptop, name, role="operator", context="lab") -> None:
    token = invite(host, name, role)
    address = coordinator.address("enrolment")
    laptop.ok("login", address, "--token-file", "-", "--context", context, stdin=token)


def test_from_an_invitation_to_a_revocation(coordinator, host, laptop):
    done = host.run("operator", "invite", "ana", "--role", "operator", "--local")
    assert done.stdout.startswith("EFO1.")
    assert len(done.stdout.splitlines()) == 1
    address = coordinator.address("enrolment")
    assert f"edgeforge login {address}" in done.stderr
    (laptop.here / "ana.token").write_text(done.stdout)
    said = laptop.run("login", address, "--token-file", "ana.token", "--context", "lab")
    assert said.returncode == 0, said.stderr
    assert "ana is logged in as operator" in said.stdout
    assert "next: edgeforge status" in said.stderr
    assert laptop.context_file("lab", "key.pem").stat().st_mode & 0o777 == 0o600
    assert laptop.context_file("lab", "").stat().st_mode & 0o777 == 0o700
    assert list((laptop.home / ".config/edgeforge").glob("pending-*")) == []

    assert "GRU" in laptop.ok("pop", "ls")
    assert "you are ana (operator" in laptop.ok("status")
    assert "needs admin" in laptop.refused("account", "create", "acme")
    host.ok("operator", "set-role", "ana", "viewer")
    assert "has the role viewer" in laptop.refused("deployment", "rm", "chat")
    refusals = host.ok("audit", "ls", "--actor", "operator/ana", "--json")
    assert "refused: needs operator, has viewer" in refusals

    listed = json.loads(host.ok("operator", "ls", "--json"))
    roles = {one["name"]: one["role"] for one in listed}
    assert (roles["admin"], roles["ana"]) == ("admin", "viewer")
    host.ok("operator", "revoke", "ana")
    for command in (("status",), ("pop", "ls"), ("operator", "ls")):
        assert "operator/ana is unknown here" in laptop.refused(*command)


def test_an_invitation_is_used_once_and_a_refused_login_leaves_nothing_behind(
    coordinator, host, laptop, tmp_path
):
    token, address = invite(host, "bo"), coordinator.address("enrolment")
    laptop.ok("login", address, "--token-file", "-", stdin=token)
    other = Machine(tmp_path / "other")
    said = other.refused("login", address, "--token-file", "-", stdin=token)
    assert "token is not valid" in said
    forged = token[:-4] + "AAAA"
    assert "token is not valid" in other.refused(
        "login", address, "--token-file", "-", stdin=forged
    )
    assert [one for one in other.home.rglob("*") if one.is_file()] == []


def test_a_coordinator_of_another_authority_gets_nothing(coordinator, host, laptop):
    prefix, digest, *rest = invite(host, "carl").split(".")
    wrong = ".".join([prefix, digest[::-1], *rest])
    said = laptop.refused(
        "login", coordinator.address("enrolment"), "--token-file", "-", stdin=wrong
    )
    assert "its CA is another" in said
    assert "nothing was sent" in said
    right = ".".join([prefix, digest, *rest])
    laptop.ok("login", coordinator.address("enrolment"), "--token-file", "-", stdin=right)


def test_an_invitation_without_local_is_refused_with_the_keys_to_set(host):
    said = host.refused("operator", "invite", "dora", "--role", "viewer")
    for word in ("loopback only", "admin.host", "admin.advertise", "--local"):
        assert word in said


def test_a_hosts_token_is_refused_with_the_command_it_is_for(coordinator, host, laptop):
    token = host.ok("node", "token", "create", "--pop", "GRU")
    said = laptop.refused(
        "login", coordinator.address("enrolment"), "--token-file", "-", stdin=token
    )
    assert "edgeforge-agent enroll" in said


def test_the_last_admin_stays(host):
    assert "last admin" in host.refused("operator", "revoke", "admin")
    assert "last admin" in host.refused("operator", "set-role", "admin", "viewer")


def test_a_nearly_expired_certificate_renews_itself_beside_any_command(coordinator, host, laptop):
    log_in(coordinator, host, laptop, "eva", "viewer")
    cert, key = (laptop.context_file("lab", one) for one in ("cert.pem", "key.pem"))
    old = CertificateAuthority.load(
        coordinator.state_dir / "ca", now_unix_ms=lambda: now_unix_ms() - 58 * DAY_MS
    ).issue_operator("eva", signing_request(key_in(key.read_bytes())))
    key_before = key.read_bytes()
    cert.write_bytes(old.pem)
    done = laptop.run("pop", "ls")
    assert (done.returncode, done.stderr) == (0, "")
    renewed = x509.load_pem_x509_certificate(cert.read_bytes())
    days = (renewed.not_valid_after_utc.timestamp() * 1_000 - now_unix_ms()) / DAY_MS
    assert days > 59
    assert key.read_bytes() == key_before
    again = cert.read_bytes()
    laptop.ok("pop", "ls")
    assert cert.read_bytes() == again
    assert "operator.renew" in host.ok("audit", "ls", "--actor", "operator/eva")


def test_an_expired_certificate_says_what_to_do(coordinator, host, laptop):
    log_in(coordinator, host, laptop, "finn", "viewer")
    cert, key = (laptop.context_file("lab", one) for one in ("cert.pem", "key.pem"))
    expired = CertificateAuthority.load(
        coordinator.state_dir / "ca", now_unix_ms=lambda: now_unix_ms() - 70 * DAY_MS
    ).issue_operator("finn", signing_request(key_in(key.read_bytes())))
    cert.write_bytes(expired.pem)
    said = laptop.refused("pop", "ls")
    assert "has expired" in said
    assert "edgeforge-coordinator operator reset" in said


def test_contexts_are_listed_used_and_removed(coordinator, host, laptop):
    log_in(coordinator, host, laptop, "gil", context="lab")
    log_in(coordinator, host, laptop, "hal", context="work")
    assert "you are hal" in laptop.ok("status")
    laptop.ok("context", "use", "lab")
    assert "you are gil" in laptop.ok("status")
    rows = json.loads(laptop.ok("context", "ls", "--json"))
    assert [(one["context"], one["current"]) for one in rows] == [("lab", True), ("work", False)]
    profile = laptop.context_file("work", "profile.toml")
    assert "you are hal" in laptop.ok("--profile", profile, "status")
    laptop.ok("context", "rm", "lab")
    assert "no coordinator is known" in laptop.refused("status")
    assert "no context" in laptop.refused("context", "use", "lab")
    again = laptop.refused(
        "login", coordinator.address("enrolment"), "--token-file", "-", "--context", "work",
        stdin=invite(host, "ida"),
    )  # fmt: skip
    assert "already" in again


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("edgeforge node token create --pop G", ["GRU"]),
        ("edgeforge operator revoke adm", ["admin"]),
        ("edgeforge operator rev", ["revoke"]),
        ("edgeforge node show x", []),
    ],
)
def test_a_shell_completes_names_of_the_fleet(host, words, offered):
    line = words.split()
    done = host.run(
        _EDGEFORGE_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(line) - 1),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == offered


def test_the_profile_that_the_line_names_is_asked(host, laptop):
    profile = host.environ["EDGEFORGE_PROFILE"]
    done = laptop.run(
        _EDGEFORGE_COMPLETE="complete_bash",
        COMP_WORDS=f"edgeforge --profile {profile} node token create --pop G",
        COMP_CWORD="7",
    )
    assert (done.stdout.split(), done.stderr) == (["GRU"], "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete_too(host, shell):
    done = host.run(
        _EDGEFORGE_COMPLETE=f"complete_{shell}",
        _TYPER_COMPLETE_ARGS="edgeforge node token create --pop G",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert "GRU" in done.stdout
    assert done.stderr == ""


def test_completion_without_a_coordinator_is_empty_and_silent(host, laptop, tmp_path):
    profile = tmp_path / "gone"
    shutil.copytree(Path(host.environ["EDGEFORGE_PROFILE"]).parent, profile)
    text = (profile / "profile.toml").read_text(encoding="utf-8")
    at = text.index('admin_address = "') + len('admin_address = "')
    # A documentation address: nothing answers, not even with a refusal.
    gone = text[:at] + "192.0.2.1:1" + text[text.index('"', at) :]
    (profile / "profile.toml").write_text(gone, encoding="utf-8")
    done = subprocess.run(
        [EDGEFORGE],
        env=laptop.environ
        | {
            "EDGEFORGE_PROFILE": str(profile / "profile.toml"),
            "_EDGEFORGE_COMPLETE": "complete_bash",
            "COMP_WORDS": "edgeforge node show ",
            "COMP_CWORD": "3",
        },
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_asks_the_program(laptop, shell):
    # The shell is named, and not looked for among the processes that have called this one.
    script = laptop.ok("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_EDGEFORGE_COMPLETE" in script


@pytest.mark.parametrize("program", ["edgeforge", "edgeforge-agent", "edgeforge-coordinator"])
def test_every_program_says_its_version(program):
    done = subprocess.run(
        [EDGEFORGE.with_name(program), "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith(f"{program} ")


def test_a_backup_of_an_earlier_version_still_admits_the_first_operator(tmp_path):
    """`restore` of a database without operators, then `serve`: the certificate of `init` works."""
    coordinator = CoordinatorProcess(tmp_path)
    coordinator.init_here()
    database = coordinator.state_dir / "coordinator.db"
    connection = connect(database)
    connection.execute("DELETE FROM rows WHERE type = 'operator'")
    connection.execute("DELETE FROM changes WHERE type = 'operator'")
    copy_database(connection, tmp_path / "backup.db")
    connection.close()
    done = coordinator.command("restore", str(tmp_path / "backup.db"))
    assert done.returncode == 0, done.stderr
    machine = Machine(tmp_path / "machine")
    machine.environ["EDGEFORGE_PROFILE"] = str(coordinator.operator_dir / "profile.toml")
    coordinator.start()
    try:
        assert "you are admin (admin" in machine.ok("status")
    finally:
        coordinator.stop()
    done = coordinator.command("operator", "reset", "rescue")
    assert done.returncode == 0, done.stderr
    rescue = coordinator.state_dir / "operators/rescue/profile.toml"
    coordinator.start()
    try:
        assert "you are rescue (admin" in machine.ok("--profile", rescue, "status")
    finally:
        coordinator.stop()
