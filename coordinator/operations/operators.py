"""Operators: invited by admins, each with a role that is read at every call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.core.operators import Role
from coordinator.operations.acts import Act
from coordinator.operations.new_tokens import new_token
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import operators, tokens
from coordinator.store.records import Purpose
from protos.domain.errors import Conflict, InvalidRequest
from protos.domain.ids import check_person

if TYPE_CHECKING:
    from coordinator.core.operators import Operator
    from coordinator.operations.actor import Actor
    from coordinator.operations.operator_certificates import OperatorCertificate

MAX_OPERATORS = 1_000


@dataclass(frozen=True, slots=True)
class Invitation:
    """A token as it is shown once; only the digest of its secret is kept."""

    text: str = field(repr=False)
    name: str
    role: Role
    expires_unix_ms: int
    enrolment_address: str
    admin_address: str


class Operators(UseCases):
    """Operators and their roles."""

    @use_case(Act.OPERATOR_INVITE, named("operator"))
    async def invite(
        self, actor: Actor, name: str, role: str, *, ttl_s: int = 0, local: bool = False
    ) -> Invitation:
        """Return a token that makes an operator of the holder of a key, once.

        ``ttl_s`` 0 is the default; ``local`` is for somebody on the coordinator's own machine.
        Raises: InvalidRequest, Conflict, Overloaded.
        """
        check_person(name)
        wanted = checked_role(role)
        if not local:
            self._check_can_be_reached()
        known = self._store.operators()
        if name not in known and len(known) >= MAX_OPERATORS:
            raise InvalidRequest(
                f"{MAX_OPERATORS} names of operators are in use", "use that of a revoked one again"
            )
        token = new_token(ttl_s, self._parts.now_unix_ms(), Purpose.OPERATOR)
        detail = f"role={wanted} ttl_s={token.ttl_s}"
        await self._store.write(
            tokens.create(
                token.record(name=name, role=wanted, created_by=str(actor)),
                note_of(actor, Act.OPERATOR_INVITE, f"operator/{name}", detail),
            )
        )
        return Invitation(
            text=token.text(self._parts.ca_sha256_hex),
            name=name,
            role=wanted,
            expires_unix_ms=token.expires_unix_ms,
            enrolment_address=self._parts.enrolment_address,
            admin_address=self._parts.admin_address,
        )

    @use_case(Act.OPERATOR_LIST)
    async def list_all(self, actor: Actor) -> Sequence[Operator]:
        """Return every operator by name, revoked ones too."""
        return [one for _, one in sorted(self._store.operators().items())]

    @use_case(Act.OPERATOR_REVOKE, named("operator"))
    async def revoke(self, actor: Actor, name: str) -> None:
        """Refuse an operator from now on, and end the calls it has in progress.

        Raises: InvalidRequest, NotFound, Conflict for the last admin.
        """
        check_person(name)
        note = note_of(actor, Act.OPERATOR_REVOKE, f"operator/{name}")
        await self._store.write(operators.revoke(name), note)
        self._parts.on_operator_changed(name)

    @use_case(Act.OPERATOR_SET_ROLE, named("operator"))
    async def set_role(self, actor: Actor, name: str, role: str) -> Operator:
        """Give an operator another role; calls in progress under the old one end.

        Raises: InvalidRequest, NotFound, Conflict for the last admin.
        """
        check_person(name)
        wanted = checked_role(role)
        note = note_of(actor, Act.OPERATOR_SET_ROLE, f"operator/{name}", f"role={wanted}")
        before = self._store.operators().get(name)
        await self._store.write(operators.set_role(name, wanted), note)
        if before is None or before.role is not wanted:
            self._parts.on_operator_changed(name)
        return self._store.operators()[name]

    @use_case(Act.OPERATOR_RENEW)
    async def renew(self, actor: Actor, csr_der: bytes) -> OperatorCertificate:
        """Return a new certificate for the caller's own key. Raises: InvalidRequest, Forbidden."""
        return await self._parts.operator_certificates.renew(actor, csr_der)

    def _check_can_be_reached(self) -> None:
        """Raises: Conflict when an invited operator's machine could not connect."""
        if not self._parts.loopback_listeners:
            return
        sections = self._parts.loopback_listeners
        keys = " and ".join(f"{one}.host" for one in sections)
        others = ", ".join(f"{one}.advertise" for one in sections)
        raise Conflict(
            f"no other machine can reach this coordinator: it listens for"
            f" {' and '.join(sections)} on loopback only",
            f"set {keys} to an address of its host, and {others} to what others dial, restart it"
            " and invite again; for somebody on its own machine: --local",
            retryable=False,
        )


def checked_role(text: str) -> Role:
    """Return the role that ``text`` names. Raises: InvalidRequest."""
    try:
        return Role(text)
    except ValueError:
        roles = ", ".join(Role)
        raise InvalidRequest(f"{text[:80]!r} is no role", f"there are {roles}") from None
