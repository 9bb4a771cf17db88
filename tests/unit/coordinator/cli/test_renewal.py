"""The operator's certificate: when it is renewed, and that a renewal fails no command."""

from __future__ import annotations

import fcntl
import os

import pytest

from coordinator import clock
from coordinator.ca.authority import CertificateAuthority
from coordinator.cli import renewal
from coordinator.cli.profiles import Profile
from coordinator.cli.renewal import Renewal
from coordinator.cli.validity import Validity, validity_of
from protos.domain.errors import LinkDown
from protos.v1 import admin_pb2

DAY_MS = 24 * 3_600_000


class Client:
    """A client whose coordinator issues what a test sets."""

    def __init__(self, folder, answer):
        self.profile = Profile(
            folder / "profile.toml",
            "x:1",
            *(folder / f"{one}.pem" for one in ("ca", "cert", "key")),
        )
        self.answer = answer
        self.requests = []

    def call(self, method, request, timeout_s):
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def folder(tmp_path):
    issued_unix_ms = clock.now_unix_ms() - 50 * DAY_MS
    authority = CertificateAuthority.create(tmp_path / "ca", now_unix_ms=lambda: issued_unix_ms)
    key_pem, issued = authority.new_operator("ana")
    (tmp_path / "key.pem").write_bytes(key_pem)
    (tmp_path / "cert.pem").write_bytes(issued.pem)
    (tmp_path / "ca.pem").write_bytes(authority.bundle_pem)
    return tmp_path


@pytest.mark.parametrize(
    ("day", "due"), [(0, False), (39, False), (41, True), (59, True), (60, False), (95, False)]
)
def test_due_in_the_last_third_of_its_life_and_not_once_it_has_expired(day, due):
    assert Validity(60 * DAY_MS).due(day * DAY_MS) is due


def test_a_certificate_in_its_last_third_is_replaced_and_the_key_stays(folder):
    client = Client(
        folder, admin_pb2.RenewOperatorResponse(certificate_pem=b"N", ca_bundle_pem=b"C")
    )
    key = (folder / "key.pem").read_bytes()
    Renewal.begin(client).finish()
    assert (folder / "cert.pem").read_bytes() == b"N"
    assert (folder / "ca.pem").read_bytes() == b"C"
    assert (folder / "key.pem").read_bytes() == key


def test_a_young_certificate_is_not_renewed(folder, monkeypatch):
    validity = validity_of(folder / "cert.pem")
    monkeypatch.setattr(
        renewal.clock, "now_unix_ms", lambda: validity.not_after_unix_ms - 59 * DAY_MS
    )
    assert Renewal.begin(Client(folder, LinkDown("no"))) is None


@pytest.mark.parametrize("error", [LinkDown("no"), RuntimeError("bug"), OSError("disk full")])
def test_a_renewal_that_fails_is_silent_and_changes_nothing(folder, error, capfd):
    before = (folder / "cert.pem").read_bytes()
    client = Client(folder, error)
    Renewal.begin(client).finish()
    assert len(client.requests) == 1
    assert (folder / "cert.pem").read_bytes() == before
    assert capfd.readouterr() == ("", "")


def test_of_commands_that_run_at_once_one_renews(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        client = Client(folder, LinkDown("no"))
        Renewal.begin(client).finish()
        assert client.requests == []
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_a_damaged_key_is_left_to_the_command_to_report(folder, content):
    (folder / "key.pem").write_bytes(content)
    client = Client(folder, LinkDown("no"))
    Renewal.begin(client).finish()
    assert client.requests == []


def test_a_certificate_that_cannot_be_read_is_not_renewed(folder):
    (folder / "cert.pem").write_bytes(b"junk")
    assert Renewal.begin(Client(folder, LinkDown("no"))) is None
