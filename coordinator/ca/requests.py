"""Certificate requests: only the key is used, and only if the request is signed with it."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protos.domain.errors import InvalidRequest

#: A P-256 request without extensions is under 300 bytes.
MAX_REQUEST_BYTES = 4_096

PublicKey = ec.EllipticCurvePublicKey


def public_key_of(csr_der: bytes) -> PublicKey:
    """Return the P-256 key of a correctly signed request; names in it are ignored.

    Raises: InvalidRequest.
    """
    if len(csr_der) > MAX_REQUEST_BYTES:
        raise InvalidRequest(f"the certificate request is over {MAX_REQUEST_BYTES} bytes")
    try:
        request = x509.load_der_x509_csr(csr_der)
        key = request.public_key()
        algorithm = request.signature_hash_algorithm
        signed = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise InvalidRequest("the certificate request cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidRequest("the certificate request is not for a P-256 key", "make a P-256 key")
    if not signed or not isinstance(algorithm, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        raise InvalidRequest("the certificate request is not signed by its own key")
    return key


def public_key_sha256(key: PublicKey) -> bytes:
    """Return SHA-256 over the key's SubjectPublicKeyInfo."""
    return hashlib.sha256(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    ).digest()
