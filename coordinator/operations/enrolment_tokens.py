"""Enrolment tokens: each enrols one node, once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.operations.acts import Act
from coordinator.operations.new_tokens import new_token
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import tokens
from coordinator.store.records import Purpose
from protos.domain.ids import check_node_id, check_pop_id

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor


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
        made = new_token(ttl_s, self._parts.now_unix_ms(), Purpose.NODE)
        token = await self._store.write(
            tokens.create(
                made.record(name=node_id, created_by=str(actor), pop_id=pop_id),
                note=note_of(actor, Act.TOKEN_CREATE, "", f"pop={pop_id} ttl_s={made.ttl_s}"),
            )
        )
        return NewToken(
            text=made.text(self._parts.ca_sha256_hex),
            node_id=token.name,
            expires_unix_ms=token.expires_unix_ms,
            enrolment_address=self._parts.enrolment_address,
        )
