"""The contents of each kind of certificate."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coordinator.ca.requests import public_key_sha256
from protos.domain.certificates import BACKDATED_MS, DAY_MS, NODE_LIFE_MS, OPERATOR_LIFE_MS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from coordinator.ca.requests import PublicKey

CA_LIFE_MS = 3_650 * DAY_MS
COORDINATOR_LIFE_MS = 825 * DAY_MS

COORDINATOR_DNS_NAME = "coordinator.edgeforge.internal"
NODE_DNS_SUFFIX = ".node.edgeforge.internal"

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate as its holder gets it."""

    pem: bytes
    serial: int
    not_after_unix_ms: int
    public_key_sha256: bytes


@dataclass(frozen=True, slots=True)
class Leaf:
    """The names and usages in a certificate."""

    kind: str
    name: str
    dns_names: tuple[str, ...]
    is_server: bool
    life_ms: int


def node_leaf(node_id: str) -> Leaf:
    """Return the leaf of a node: server to its peers, client of coordinator and peers."""
    return Leaf("node", node_id, (node_id + NODE_DNS_SUFFIX,), True, NODE_LIFE_MS)


def operator_leaf(name: str) -> Leaf:
    """Return the leaf of an operator: client only."""
    return Leaf("operator", name, (), False, OPERATOR_LIFE_MS)


def coordinator_leaf(name: str, hosts: Sequence[str] = ()) -> Leaf:
    """Return the leaf of a coordinator, which has the same DNS name on every host.

    ``hosts`` are further names and IP addresses, for clients that know no other name.
    """
    return Leaf("coordinator", name, (COORDINATOR_DNS_NAME, *hosts), True, COORDINATOR_LIFE_MS)


def _host_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def self_signed_ca(key: ec.EllipticCurvePrivateKey, now_unix_ms: int) -> x509.Certificate:
    """Return the certificate of a new authority, which may sign leaves only."""
    serial = x509.random_serial_number()
    name = _name(f"EdgeForge CA {serial:040x}"[:32])
    return (
        _builder(name, name, key.public_key(), serial, now_unix_ms, CA_LIFE_MS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def signed_leaf(
    leaf: Leaf,
    key: PublicKey,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    now_unix_ms: int,
) -> IssuedCertificate:
    """Return a certificate for ``key`` with the names of ``leaf`` only."""
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if leaf.is_server:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(f"edgeforge://{leaf.kind}/{leaf.name}")
    ]
    names += [_host_name(dns_name) for dns_name in leaf.dns_names]
    serial = x509.random_serial_number()
    certificate = (
        _builder(_name(leaf.name), issuer.subject, key, serial, now_unix_ms, leaf.life_ms)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return IssuedCertificate(
        pem=certificate.public_bytes(serialization.Encoding.PEM),
        serial=serial,
        not_after_unix_ms=not_after_unix_ms(certificate),
        public_key_sha256=public_key_sha256(key),
    )


def not_after_unix_ms(certificate: x509.Certificate) -> int:
    """Return until when a certificate is valid."""
    return _to_unix_ms(certificate.not_valid_after_utc)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PublicKey,
    serial: int,
    now_unix_ms: int,
    life_ms: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(_from_unix_ms(now_unix_ms - BACKDATED_MS))
        .not_valid_after(_from_unix_ms(now_unix_ms + life_ms))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _from_unix_ms(unix_ms: int) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(seconds=unix_ms // 1_000)


def _to_unix_ms(moment: datetime.datetime) -> int:
    return int((moment - _EPOCH).total_seconds()) * 1_000
