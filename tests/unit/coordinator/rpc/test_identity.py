"""The identity in a certificate, and a caller's address."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from coordinator.ca.authority import CertificateAuthority
from coordinator.rpc.identity import (
    IdentityKind,
    identity_of,
    network_of,
    peer_address,
    peer_identity,
)
from protos.domain.errors import Unauthenticated
from tests.support.certificates import p256_key, request_der, self_signed_pem
from tests.support.stores import SetClock


def test_names_of_our_authority(tmp_path):
    authority = CertificateAuthority.create(tmp_path, now_unix_ms=SetClock())
    issued = authority.issue_node("gru-1", request_der())
    node = identity_of(issued.pem)
    assert (node.kind, node.name, str(node)) == (IdentityKind.NODE, "gru-1", "node/gru-1")
    assert node.certificate_serial == issued.serial
    operator = identity_of(authority.issue_operator("ana", request_der()).pem)
    assert (operator.kind, str(operator)) == (IdentityKind.OPERATOR, "operator/ana")


@pytest.mark.parametrize(
    "uris",
    [
        (),
        ("https://operator/ana",),
        ("edgeforge://operator/ana", "edgeforge://node/gru-1"),
        ("edgeforge://king/ana",),
        ("edgeforge://operator/",),
        ("edgeforge://operator/a/b",),
        ("edgeforge://node/NOT-A-NODE",),
        ("edgeforge://operator/Ana%20",),
    ],
)
def test_certificates_without_one_valid_name_are_refused(uris):
    with pytest.raises(Unauthenticated):
        identity_of(self_signed_pem(p256_key(), uris))


def test_other_uris_do_not_matter():
    pem = self_signed_pem(p256_key(), ("spiffe://x/y", "edgeforge://operator/ana"))
    assert str(identity_of(pem)) == "operator/ana"


def test_no_certificate_at_all():
    with pytest.raises(Unauthenticated, match="certificate is needed"):
        peer_identity(SimpleNamespace(auth_context=dict))
    with pytest.raises(Unauthenticated):
        identity_of(b"junk")


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.1.2.3:5555", "10.1.2.3"),
        ("ipv6:[2001:db8::1]:5555", "2001:db8::1"),
        ("ipv6:%5B2001:db8::1%5D:5555", "2001:db8::1"),
        ("ipv6:[fe80::1%25eth0]:5555", "fe80::1"),
        ("unix:/run/x.sock", "unknown"),
        ("ipv4:junk", "unknown"),
        ("", "unknown"),
    ],
)
def test_addresses(peer, address):
    assert peer_address(SimpleNamespace(peer=lambda: peer)) == address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("unknown", "unknown"),
    ],
)
def test_a_party_is_an_ipv4_address_or_an_ipv6_64(address, network):
    assert network_of(address) == network
