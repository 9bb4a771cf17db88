"""New tokens: a random secret, of which only the digest is kept, and a limited life."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from coordinator.operations.secret_texts import digest_of
from coordinator.store.records import Purpose, TokenRecord
from protos.domain.errors import InvalidRequest
from protos.enrolment.token_text import PREFIX_OF_NODE, PREFIX_OF_OPERATOR, token_text

DEFAULT_TOKEN_TTL_S = 3_600
MAX_TOKEN_TTL_S = 24 * 3_600
_ID_BYTES = 8
_SECRET_BYTES = 32

_PREFIXES = {Purpose.NODE: PREFIX_OF_NODE, Purpose.OPERATOR: PREFIX_OF_OPERATOR}
_WHEN = {
    Purpose.NODE: "make it when the host is ready to enrol",
    Purpose.OPERATOR: "invite when the operator is ready to log in",
}


@dataclass(frozen=True, slots=True)
class UnstoredToken:
    """A token before it is stored."""

    id: str
    secret: str = field(repr=False)
    purpose: Purpose
    ttl_s: int
    expires_unix_ms: int

    def record(
        self, *, name: str, created_by: str, pop_id: str = "", role: str = ""
    ) -> TokenRecord:
        """Return what is stored of it."""
        return TokenRecord(
            id=self.id,
            secret_sha256=digest_of(self.secret),
            purpose=self.purpose,
            name=name,
            expires_unix_ms=self.expires_unix_ms,
            pop_id=pop_id,
            role=role,
            created_by=created_by,
        )

    def text(self, ca_sha256_hex: str) -> str:
        """Return what is shown once, to be handed over."""
        return token_text(_PREFIXES[self.purpose], ca_sha256_hex, self.id, self.secret)


def new_token(ttl_s: int, now_unix_ms: int, purpose: Purpose) -> UnstoredToken:
    """Return a new token; ``ttl_s`` 0 is the default. Raises: InvalidRequest."""
    ttl_s = ttl_s or DEFAULT_TOKEN_TTL_S
    if ttl_s > MAX_TOKEN_TTL_S:
        raise InvalidRequest(
            f"a token lives at most {MAX_TOKEN_TTL_S} s, not {ttl_s}", _WHEN[purpose]
        )
    return UnstoredToken(
        id=secrets.token_hex(_ID_BYTES),
        secret=secrets.token_urlsafe(_SECRET_BYTES),
        purpose=purpose,
        ttl_s=ttl_s,
        expires_unix_ms=now_unix_ms + ttl_s * 1_000,
    )
