"""Certificate requests: P-256, signed by their own key, small."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from coordinator.ca.requests import MAX_REQUEST_BYTES, public_key_of, public_key_sha256
from protos.domain.errors import InvalidRequest
from tests.support.certificates import p256_key, request_der


def test_the_key_of_a_signed_request():
    key = p256_key()
    assert public_key_of(request_der(key)) == key.public_key()


def test_the_digest_is_over_the_subject_public_key_info():
    key = p256_key().public_key()
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert public_key_sha256(key) == hashlib.sha256(spki).digest()


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65_537, key_size=2_048),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["rsa", "p384", "secp256k1"],
)
def test_only_p256(key):
    with pytest.raises(InvalidRequest, match="P-256"):
        public_key_of(request_der(key))


def test_a_request_not_signed_with_its_own_key_is_refused():
    mine, theirs = p256_key(), p256_key()
    spki = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    forged = request_der(mine).replace(
        mine.public_key().public_bytes(*spki), theirs.public_key().public_bytes(*spki)
    )
    with pytest.raises(InvalidRequest, match="not signed by its own key"):
        public_key_of(forged)


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x30\x82\xff\xff", request_der()[:-10]])
def test_bytes_that_are_no_request_are_refused(junk):
    with pytest.raises(InvalidRequest):
        public_key_of(junk)


def test_a_request_over_the_limit_is_not_parsed():
    with pytest.raises(InvalidRequest, match="bytes"):
        public_key_of(bytes(MAX_REQUEST_BYTES + 1))
