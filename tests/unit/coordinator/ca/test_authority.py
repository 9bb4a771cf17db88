"""The authority's folder: private, never overwritten, at most two trusted authorities."""

from __future__ import annotations

import hashlib
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from coordinator.ca.authority import CertificateAuthority, drop_also_trusted, trust_also
from protos.domain.errors import ConfigInvalid, Conflict, InvalidRequest, NotFound
from tests.support.certificates import p256_key, private_pem, request_der
from tests.support.stores import SetClock

CLOCK = SetClock()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state" / "ca"


def create(folder):
    return CertificateAuthority.create(folder, now_unix_ms=CLOCK)


def load(folder):
    return CertificateAuthority.load(folder, now_unix_ms=CLOCK)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_created_can_be_loaded(folder):
    made = create(folder)
    loaded = load(folder)
    assert loaded.certificate_pem == made.certificate_pem == (folder / "ca.pem").read_bytes()
    leaf = x509.load_pem_x509_certificate(loaded.issue_node("gru-1", request_der()).pem)
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(made.certificate_pem))


def test_the_fingerprint_is_over_der(folder):
    certificate = x509.load_pem_x509_certificate(create(folder).certificate_pem)
    der = certificate.public_bytes(serialization.Encoding.DER)
    assert load(folder).sha256_hex == hashlib.sha256(der).hexdigest()


def test_the_key_is_readable_by_its_owner_only(folder):
    create(folder)
    assert mode(folder) == 0o700
    assert mode(folder / "authority.pem") == 0o600


def test_an_authority_is_never_overwritten(folder):
    made = create(folder)
    with pytest.raises(Conflict, match="exists"):
        create(folder)
    assert load(folder).sha256_hex == made.sha256_hex
    assert sorted(path.name for path in folder.iterdir()) == ["authority.pem", "ca.pem"]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused(folder, bits):
    create(folder)
    (folder / "authority.pem").chmod(bits)
    with pytest.raises(ConfigInvalid, match="can be read by others") as caught:
        load(folder)
    assert "chmod 600" in caught.value.hint
    assert b"PRIVATE" not in str(caught.value).encode()


def test_a_missing_authority_is_an_error_with_the_next_step(folder):
    with pytest.raises(NotFound) as caught:
        load(folder)
    assert "init" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"junk", private_pem(p256_key())])
def test_a_damaged_authority_is_refused(folder, content):
    create(folder)
    (folder / "authority.pem").write_bytes(content)
    with pytest.raises(ConfigInvalid):
        load(folder)


def test_a_key_of_another_authority_is_refused(folder):
    made = create(folder)
    (folder / "authority.pem").write_bytes(private_pem(p256_key()) + made.certificate_pem)
    with pytest.raises(ConfigInvalid, match="differ"):
        load(folder)


def test_a_second_authority_joins_the_bundle_and_leaves_it(folder, tmp_path):
    first, second = create(folder), create(tmp_path / "next")
    trust_also(folder, second.certificate_pem)
    assert load(folder).bundle_pem == first.certificate_pem + second.certificate_pem
    assert load(folder).sha256_hex == first.sha256_hex
    drop_also_trusted(folder)
    assert load(folder).bundle_pem == first.certificate_pem


def test_a_third_authority_is_refused(folder, tmp_path):
    create(folder)
    trust_also(folder, create(tmp_path / "next").certificate_pem)
    with pytest.raises(Conflict, match="two authorities"):
        trust_also(folder, create(tmp_path / "third").certificate_pem)


def test_a_leaf_is_refused_as_an_authority(folder):
    leaf = create(folder).issue_node("gru-1", request_der()).pem
    for pem in (leaf, b"junk"):
        with pytest.raises(InvalidRequest):
            trust_also(folder, pem)


def test_operators_get_a_key_of_their_own(folder):
    authority = create(folder)
    key_pem, issued = authority.new_operator("ana")
    key = serialization.load_pem_private_key(key_pem, password=None)
    assert x509.load_pem_x509_certificate(issued.pem).public_key() == key.public_key()
