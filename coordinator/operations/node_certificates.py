"""Certificates of nodes: the first one, for a token, and each later one are issued in one place."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.store import audit, nodes, tokens
from coordinator.store.records import AuditNote, RefusalCause, TokenRefused
from protos.domain.errors import InvalidRequest, Unauthenticated

if TYPE_CHECKING:
    from coordinator.ca.authority import CertificateAuthority
    from coordinator.ca.certificates import IssuedCertificate
    from coordinator.store.records import Redemption
    from coordinator.store.store import Store

_log = logging.getLogger(__name__)

_MAX_ID_CHARS = 64
_MAX_SECRET_CHARS = 128


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
        self._now_unix_ms = now_unix_ms

    async def enrol(
        self, actor: str, token_id: str, secret: str, csr_der: bytes
    ) -> NodeCertificate:
        """Redeem a token for the holder of a key. Raises: Unauthenticated, InvalidRequest.

        A refusal does not say why; the log and the audit do.
        """
        token_id = token_id[:_MAX_ID_CHARS]
        subject = f"token/{token_id!a}"
        try:
            redemption = await self._redeem(actor, token_id, secret, csr_der)
        except InvalidRequest as error:
            _log.warning("enrolment refused by=%s cause=bad_request: %s", actor, error)
            await self._store.write(
                audit.append(AuditNote(actor, "enrolment.refused", subject, error.message))
            )
            raise
        except TokenRefused as refused:
            detail = f"cause={refused.cause} node={refused.node_id or 'unknown'}"
            _log.warning("enrolment refused by=%s %s %s", actor, subject, detail)
            await self._store.write(
                audit.append(AuditNote(actor, "enrolment.refused", subject, detail))
            )
            raise Unauthenticated(
                "the enrolment token is not valid",
                "ask an operator for a new one: edgeforge node token create --pop POP",
                code="enrolment_refused",
            ) from None
        _log.info(
            "node enrolled node=%s pop=%s by=%s again=%s",
            *(redemption.node_id, redemption.pop_id, actor, redemption.again),
        )
        return NodeCertificate(
            node_id=redemption.node_id,
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

    async def _redeem(self, actor: str, token_id: str, secret: str, csr_der: bytes) -> Redemption:
        """Raises: TokenRefused, InvalidRequest. The request is read once the secret is proved."""
        token = await self._store.read(tokens.by_id(token_id))
        presented = hashlib.sha256(secret[:_MAX_SECRET_CHARS].encode()).digest()
        # An unknown token costs the same comparison as a known one.
        kept = token.secret_sha256 if token else bytes(len(presented))
        proved = hmac.compare_digest(presented, kept)
        if token is None:
            raise TokenRefused(RefusalCause.UNKNOWN)
        if not proved:
            raise TokenRefused(RefusalCause.FORGED, token.node_id)
        if token.expires_unix_ms <= self._now_unix_ms():
            raise TokenRefused(RefusalCause.EXPIRED, token.node_id)
        # Sent only if this call is the one that uses the token.
        issued = await self._issue(token.node_id, csr_der)
        return await self._store.write(
            tokens.redeem(
                token.id,
                public_key_sha256=issued.public_key_sha256,
                certificate_pem=issued.pem,
                serial=issued.serial,
                not_after_unix_ms=issued.not_after_unix_ms,
                actor=actor,
            )
        )

    async def _issue(self, node_id: str, csr_der: bytes) -> IssuedCertificate:
        """Return a certificate for the key in a request. Raises: InvalidRequest."""
        return await asyncio.to_thread(self._authority.issue_node, node_id, csr_der)
