"""Certificates of operators: the first one, for an invitation, and each later one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from coordinator.operations.acts import Act
from coordinator.operations.token_proof import TokenProof
from coordinator.store import operators
from coordinator.store.records import AuditNote, Purpose
from protos.domain.errors import Forbidden, InvalidRequest

if TYPE_CHECKING:
    from coordinator.ca.authority import CertificateAuthority
    from coordinator.ca.certificates import IssuedCertificate
    from coordinator.operations.actor import Actor
    from coordinator.store.store import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OperatorCertificate:
    """What an operator is given: its certificate, and the authorities that it should trust."""

    name: str
    role: str
    certificate_pem: bytes
    ca_bundle_pem: bytes


class OperatorCertificates:
    """Issues certificates to those who hold an invitation, and renews those of operators."""

    def __init__(
        self, store: Store, authority: CertificateAuthority, now_unix_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._authority = authority
        self._proof = TokenProof(
            store,
            Purpose.OPERATOR,
            now_unix_ms,
            "ask an admin for a new one: edgeforge operator invite NAME --role ROLE",
        )

    async def enrol(
        self, caller: str, token_id: str, secret: str, csr_der: bytes
    ) -> OperatorCertificate:
        """Redeem an invitation for the holder of a key. Raises: Unauthenticated, InvalidRequest.

        A refusal does not say why; the log and the audit do.
        """
        redemption = await self._proof.redeem(
            caller, token_id, secret, partial(self._issue, csr_der=csr_der)
        )
        _log.info(
            "operator enrolled operator=%s role=%s by=%s again=%s",
            *(redemption.name, redemption.role, caller, redemption.again),
        )
        return OperatorCertificate(
            name=redemption.name,
            role=redemption.role,
            certificate_pem=redemption.certificate_pem,
            ca_bundle_pem=self._authority.bundle_pem,
        )

    async def renew(self, actor: Actor, csr_der: bytes) -> OperatorCertificate:
        """Return a new certificate for the caller's own key.

        Raises: InvalidRequest for another key; Forbidden, NotFound when revoked meanwhile.
        """
        name = actor.name
        issued = await self._issue(name, csr_der)
        operator = self._store.operators().get(name)
        if operator is None or operator.revoked:
            raise Forbidden(f"operator/{name} has been revoked")
        if not operator.admits(issued.public_key_sha256):
            raise InvalidRequest(
                "a renewal keeps the key of the operator",
                "another key needs an invitation: edgeforge operator invite NAME --role ROLE",
            )
        note = AuditNote(
            str(actor), Act.OPERATOR_RENEW, f"operator/{name}", f"serial={issued.serial:x}"
        )
        await self._store.write(
            operators.note_certificate(name, issued.serial, issued.not_after_unix_ms), note
        )
        return OperatorCertificate(
            name=name,
            role=operator.role,
            certificate_pem=issued.pem,
            ca_bundle_pem=self._authority.bundle_pem,
        )

    async def _issue(self, name: str, csr_der: bytes) -> IssuedCertificate:
        """Return a certificate for the key in a request. Raises: InvalidRequest."""
        return await asyncio.to_thread(self._authority.issue_operator, name, csr_der)
