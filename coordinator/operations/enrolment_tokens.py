"""Enrolment tokens: each enrols one node, once."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import tokens
from coordinator.store.records import TokenRecord
from protos.domain.errors import InvalidRequest
from protos.domain.ids import check_node_id, check_pop_id

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor

DEFAULT_TOKEN_TTL_S = 3_600
MAX_TOKEN_TTL_S = 24 * 3_600
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token as it is shown once; only the digest of its secret is kept."""

    text: str = field(repr=False)
    node_id: str
    expires_unix_ms: int
    enrolment_address: str


class EnrolmentTokens(UseCases):
    """Enrolment tokens."""

    @use_case(Act.TOKEN_CREATE, named("pop"))
    async def create(self, actor: Actor, pop_id: str, *, node_id: str, ttl_s: int) -> NewToken:
        """Return a new token; ``node_id`` may be empty, ``ttl_s`` 0: the default.

        Raises: InvalidRequest, NotFound, Conflict, Overloaded.
        """
        check_pop_id(pop_id)
        if node_id:
            check_node_id(node_id)
        ttl_s = ttl_s or DEFAULT_TOKEN_TTL_S
        if ttl_s > MAX_TOKEN_TTL_S:
            raise InvalidRequest(
                f"a token lives at most {MAX_TOKEN_TTL_S} s, not {ttl_s}",
                "make it when the host is ready to enrol",
            )
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        token = await self._store.write(
            tokens.create(
                TokenRecord(
                    id=secrets.token_hex(8),
                    secret_sha256=hashlib.sha256(secret.encode()).digest(),
                    pop_id=pop_id,
                    node_id=node_id,
                    expires_unix_ms=self._parts.now_unix_ms() + ttl_s * 1_000,
                ),
                note=note_of(actor, Act.TOKEN_CREATE, "", f"pop={pop_id} ttl_s={ttl_s}"),
            )
        )
        return NewToken(
            text=f"EF1.{self._parts.ca_sha256_hex}.{token.id}.{secret}",
            node_id=token.node_id,
            expires_unix_ms=token.expires_unix_ms,
            enrolment_address=self._parts.enrolment_address,
        )
