"""The signature of webhooks that we send: HMAC-SHA256 over the time and the body."""

from __future__ import annotations

import hashlib
import hmac

from protos.domain.errors import Unauthenticated

HEADER = "EdgeForge-Signature"
#: A signature that is older, or from further ahead, is refused by ``verify``.
TOLERANCE_S = 300


def sign(secret: str, body: bytes, now_unix_s: int) -> str:
    """Return the value of the header: "t=<seconds>,v1=<hex>"."""
    return f"t={now_unix_s},v1={_digest(secret, body, now_unix_s)}"


def verify(secret: str, body: bytes, header: str, now_unix_s: int) -> None:
    """Check a header, as receivers do. Raises: Unauthenticated."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    text = parts.get("t", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise Unauthenticated("the signature has no time")
    if abs(now_unix_s - int(text)) > TOLERANCE_S:
        raise Unauthenticated("the signature is not of now: it may be a replay")
    expected = _digest(secret, body, int(text))
    if not hmac.compare_digest(expected.encode(), parts.get("v1", "").encode()):
        raise Unauthenticated("the signature does not match")


def _digest(secret: str, body: bytes, unix_s: int) -> str:
    return hmac.new(secret.encode(), b"%d.%s" % (unix_s, body), hashlib.sha256).hexdigest()
