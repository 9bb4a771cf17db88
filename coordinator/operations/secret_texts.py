"""Secrets that are shown once as a text, kept as a digest, and proved in one time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

_ID_BYTES = 8
_SECRET_BYTES = 32
_MAX_TEXT_CHARS = 200


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A text ``prefix-id-secret`` before it is stored."""

    id: str
    text: str = field(repr=False)

    @property
    def digest(self) -> bytes:
        """What is stored of it."""
        return digest_of(self.text)


def new_secret(
    prefix: str, *, id_bytes: int = _ID_BYTES, secret_bytes: int = _SECRET_BYTES
) -> NewSecret:
    """Return a new text."""
    secret_id = secrets.token_hex(id_bytes)
    return NewSecret(secret_id, f"{prefix}-{secret_id}-{secrets.token_hex(secret_bytes)}")


def id_in(text: str, prefix: str) -> str:
    """Return the public id in a text of ``new_secret``; empty if it is not of this form."""
    given, _, rest = text.partition("-")
    found, _, secret = rest.partition("-")
    is_right = given == prefix and len(found) == 2 * _ID_BYTES and bool(secret)
    return found if is_right and len(text) <= _MAX_TEXT_CHARS else ""


def digest_of(text: str) -> bytes:
    """Return what is stored of a secret."""
    return hashlib.sha256(text.encode()).digest()


def is_proved(text: str, digest: bytes | None) -> bool:
    """Return whether a text has a digest. None costs the same time as a wrong one."""
    presented = hashlib.sha256(text[:_MAX_TEXT_CHARS].encode(errors="replace")).digest()
    return hmac.compare_digest(presented, digest or bytes(32)) and digest is not None
