"""Certificates of nodes: the first one, for a token, and each later one are issued in one place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from coordinator.operations.token_proof import TokenProof
from coordinator.store import nodes
from coordinator.store.records import AuditNote, Purpose

if TYPE_CHECKING:
    from coordinator.ca.authority import CertificateAuthority
    from coordinator.ca.certificates import IssuedCertificate
    from coordinator.store.store import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeCertificate:
    """What a node is given: its certificate, and the authorities that it should trust."""

    node_id: str
    pop_id: str
    certificate_pem: bytes
    ca_bundle_pem: bytes


class NodeCertificates:
    """Called by nodes and by hosts that are to become nodes, not by operators: no role is asked.

    Whoever calls has proved a token's secret here, or its certificate to the listener.
    """

    def __init__(
        self, store: Store, authority: CertificateAuthority, now_unix_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._authority = authority
        self._proof = TokenProof(
            store,
            Purpose.NODE,
            now_unix_ms,
            "ask an operator for a new one: edgeforge node token create --pop POP",
        )

    async def enrol(
        self, actor: str, token_id: str, secret: str, csr_der: bytes
    ) -> NodeCertificate:
        """Redeem a token for the holder of a key. Raises: Unauthenticated, InvalidRequest.

        A refusal does not say why; the log and the audit do.
        """
        redemption = await self._proof.redeem(
            actor, token_id, secret, partial(self._issue, csr_der=csr_der)
        )
        _log.info(
            "node enrolled node=%s pop=%s by=%s again=%s",
            *(redemption.name, redemption.pop_id, actor, redemption.again),
        )
        return NodeCertificate(
            node_id=redemption.name,
            pop_id=redemption.pop_id,
            certificate_pem=redemption.certificate_pem,
            ca_bundle_pem=self._authority.bundle_pem,
        )

    async def renew(self, node_id: str, csr_der: bytes) -> NodeCertificate:
        """Return a new certificate for an enrolled node. Raises: InvalidRequest, NotFound."""
        issued = await self._issue(node_id, csr_der)
        actor = f"node/{node_id}"
        note = AuditNote(actor, "certificate.renew", actor, f"serial={issued.serial:x}")
        await self._store.write(
            nodes.note_certificate(node_id, issued.serial, issued.not_after_unix_ms), note
        )
        record = self._store.node_record(node_id)
        return NodeCertificate(
            node_id=node_id,
            pop_id=record.pop_id if record else "",
            certificate_pem=issued.pem,
            ca_bundle_pem=self._authority.bundle_pem,
        )

    async def _issue(self, node_id: str, csr_der: bytes) -> IssuedCertificate:
        """Return a certificate for the key in a request. Raises: InvalidRequest."""
        return await asyncio.to_thread(self._authority.issue_node, node_id, csr_der)
