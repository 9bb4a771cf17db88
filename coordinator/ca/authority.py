"""The fleet's certificate authority.

Its folder holds ``authority.pem`` (key and certificate together, so that they are replaced in one
rename), ``ca.pem`` (the certificate alone, to hand out) and, while one authority follows another,
``also_trusted.pem``: agents get both in their bundle and accept certificates of either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.ca import files
from coordinator.ca.certificates import (
    IssuedCertificate,
    coordinator_leaf,
    node_leaf,
    not_after_unix_ms,
    operator_leaf,
    self_signed_ca,
    signed_leaf,
)
from coordinator.ca.requests import public_key_of
from protos.domain.errors import ConfigInvalid, Conflict, InvalidRequest
from protos.domain.ids import check_node_id, check_person
from protos.enrolment.keys import key_pem, new_key
from protos.host.files import make_private_folder

_AUTHORITY = "authority.pem"
_CERTIFICATE = "ca.pem"
_ALSO_TRUSTED = "also_trusted.pem"


class CertificateAuthority:
    """Signs certificates; names come from its callers. Safe to use from any thread."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        certificate: x509.Certificate,
        also_trusted: x509.Certificate | None,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._key = key
        self._certificate = certificate
        self._now_unix_ms = now_unix_ms
        #: This authority's certificate.
        self.certificate_pem = _pem(certificate)
        #: Every authority that the fleet trusts now, one or two.
        self.bundle_pem = self.certificate_pem + (_pem(also_trusted) if also_trusted else b"")
        #: Hexadecimal SHA-256 of the certificate; enrolment tokens pin it.
        self.sha256_hex = hashlib.sha256(
            certificate.public_bytes(serialization.Encoding.DER)
        ).hexdigest()

    @classmethod
    def create(cls, folder: Path, *, now_unix_ms: Callable[[], int]) -> CertificateAuthority:
        """Make a new authority in ``folder``. Raises: Conflict if there is one."""
        make_private_folder(folder)
        key = new_key()
        certificate = self_signed_ca(key, now_unix_ms())
        files.write_key(folder / _AUTHORITY, key_pem(key) + _pem(certificate))
        files.write_public(folder / _CERTIFICATE, _pem(certificate), replace=True)
        return cls(key, certificate, None, now_unix_ms)

    @classmethod
    def load(cls, folder: Path, *, now_unix_ms: Callable[[], int]) -> CertificateAuthority:
        """Read the authority in ``folder``.

        Raises: NotFound; ConfigInvalid when its key is readable by others, or is not a key.
        """
        pem = files.read_key(folder / _AUTHORITY)
        try:
            key = serialization.load_pem_private_key(pem, password=None)
            certificate = x509.load_pem_x509_certificate(pem)
        except (ValueError, TypeError) as error:
            raise ConfigInvalid([f"{folder / _AUTHORITY} holds no key and certificate"]) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or (
            key.public_key() != certificate.public_key()
        ):
            raise ConfigInvalid([f"key and certificate in {folder / _AUTHORITY} differ"])
        return cls(key, certificate, _also_trusted(folder), now_unix_ms)

    def issue_node(self, node_id: str, csr_der: bytes) -> IssuedCertificate:
        """Return a 30-day certificate for the key in a request. Raises: InvalidRequest."""
        leaf = node_leaf(check_node_id(node_id))
        return signed_leaf(
            leaf, public_key_of(csr_der), self._certificate, self._key, self._now_unix_ms()
        )

    def issue_operator(self, name: str, csr_der: bytes) -> IssuedCertificate:
        """Return a 60-day client certificate. Raises: InvalidRequest."""
        leaf = operator_leaf(check_person(name))
        return signed_leaf(
            leaf, public_key_of(csr_der), self._certificate, self._key, self._now_unix_ms()
        )

    def new_operator(self, name: str) -> tuple[bytes, IssuedCertificate]:
        """Return a new private key (PEM) and an operator's certificate for it."""
        key = new_key()
        leaf = operator_leaf(check_person(name))
        return key_pem(key), signed_leaf(
            leaf, key.public_key(), self._certificate, self._key, self._now_unix_ms()
        )

    def not_after_unix_ms(self, certificate_pem: bytes) -> int:
        """Return until when a certificate of this authority is valid; 0 for another one's."""
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem)
            certificate.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):
            return 0
        return not_after_unix_ms(certificate)

    def new_coordinator(self, name: str, hosts: Sequence[str] = ()) -> tuple[bytes, bytes]:
        """Return a new private key (PEM) and its chain: server certificate, authority certificate.

        Issued at every start and kept in memory only. ``hosts``: see ``coordinator_leaf``.
        """
        key = new_key()
        leaf = coordinator_leaf(check_person(name), hosts)
        issued = signed_leaf(
            leaf, key.public_key(), self._certificate, self._key, self._now_unix_ms()
        )
        return key_pem(key), issued.pem + self.certificate_pem


def trust_also(folder: Path, certificate_pem: bytes) -> None:
    """Add a second authority to the bundle, before or after it becomes the signing one.

    Raises: Conflict if there are two already; InvalidRequest if it is no authority.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise InvalidRequest("this is not the certificate of an authority") from error
    if not constraints.ca:
        raise InvalidRequest("this is not the certificate of an authority")
    try:
        files.write_public(folder / _ALSO_TRUSTED, _pem(certificate))
    except Conflict:
        raise Conflict(
            "two authorities are trusted already",
            "wait until all nodes have renewed, then drop the old one",
            retryable=False,
        ) from None


def drop_also_trusted(folder: Path) -> None:
    """Trust one authority only."""
    (folder / _ALSO_TRUSTED).unlink(missing_ok=True)


def _also_trusted(folder: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate((folder / _ALSO_TRUSTED).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigInvalid([f"{folder / _ALSO_TRUSTED} is not a certificate"]) from error


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
