"""Contents of certificates: names of the authority only, those of the request are ignored."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from coordinator.ca.authority import CertificateAuthority
from coordinator.ca.certificates import (
    BACKDATED_MS,
    NODE_LIFE_MS,
    OPERATOR_LIFE_MS,
    IssuedCertificate,
)
from protos.domain.errors import InvalidRequest
from tests.support.certificates import p256_key, request_der
from tests.support.stores import START_UNIX_MS, SetClock


@pytest.fixture
def authority(tmp_path):
    return CertificateAuthority.create(tmp_path / "ca", now_unix_ms=SetClock())


def parsed(issued: IssuedCertificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.pem)


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind).value


def names(certificate):
    return [general.value for general in extension(certificate, x509.SubjectAlternativeName)]


def test_a_node_gets_its_own_names_and_none_it_asked_for(authority):
    key = p256_key()
    asked = request_der(key, name="root", uris=("edgeforge://operator/root",))
    certificate = parsed(authority.issue_node("gru-1", asked))
    assert names(certificate) == ["edgeforge://node/gru-1", "gru-1.node.edgeforge.internal"]
    assert certificate.subject.rfc4514_string() == "CN=gru-1"
    assert certificate.public_key() == key.public_key()


def test_a_node_is_client_and_server_for_thirty_days(authority):
    issued = authority.issue_node("gru-1", request_der())
    certificate = parsed(issued)
    usages = set(extension(certificate, x509.ExtendedKeyUsage))
    assert usages == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert issued.not_after_unix_ms == START_UNIX_MS + NODE_LIFE_MS
    assert certificate.not_valid_after_utc.timestamp() * 1_000 == issued.not_after_unix_ms
    starts = certificate.not_valid_before_utc.timestamp() * 1_000
    assert starts == START_UNIX_MS - BACKDATED_MS
    assert certificate.serial_number == issued.serial


def test_an_operator_is_a_client_only(authority):
    issued = authority.issue_operator("ana", request_der())
    certificate = parsed(issued)
    assert names(certificate) == ["edgeforge://operator/ana"]
    assert list(extension(certificate, x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert issued.not_after_unix_ms == START_UNIX_MS + OPERATOR_LIFE_MS


def test_leaves_cannot_sign(authority):
    certificate = parsed(authority.issue_node("gru-1", request_der()))
    assert not extension(certificate, x509.BasicConstraints).ca
    assert not extension(certificate, x509.KeyUsage).key_cert_sign


def test_a_leaf_verifies_against_the_authority_only(authority, tmp_path):
    other = CertificateAuthority.create(tmp_path / "other", now_unix_ms=SetClock())
    leaf = parsed(authority.issue_node("gru-1", request_der()))
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate_pem))
    with pytest.raises(ValueError, match=r"[Ii]ssuer"):
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(other.certificate_pem))


def test_the_authority_may_sign_leaves_only(authority):
    certificate = x509.load_pem_x509_certificate(authority.certificate_pem)
    constraints = extension(certificate, x509.BasicConstraints)
    assert (constraints.ca, constraints.path_length) == (True, 0)


def test_the_coordinator_sends_the_authority_along(authority):
    _, chain = authority.new_coordinator("coordinator")
    server, root = x509.load_pem_x509_certificates(chain)
    assert "coordinator.edgeforge.internal" in names(server)
    assert root == x509.load_pem_x509_certificate(authority.certificate_pem)


@pytest.mark.parametrize("name", ["", "Root", "a/b", "a b", "../x", "x" * 100])
def test_names_have_a_grammar(authority, name):
    with pytest.raises(InvalidRequest):
        authority.issue_operator(name, request_der())
    with pytest.raises(InvalidRequest):
        authority.issue_node(name, request_der())
