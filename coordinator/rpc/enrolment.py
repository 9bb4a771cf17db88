"""Enrolment: exchanges a one-time token and a signed certificate request for a certificate.

The caller is not authenticated. A refusal does not say why; the log and the audit do.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.ca.requests import PublicKey, public_key_of, public_key_sha256
from coordinator.core.rate_limit import RateLimit
from coordinator.rpc.identity import network_of, peer_address
from coordinator.store.records import AuditNote, Redemption, RefusalCause, TokenRefused
from protos.domain.errors import InvalidRequest, Overloaded, Unauthenticated
from protos.v1 import enrolment_pb2, enrolment_pb2_grpc

if TYPE_CHECKING:
    from coordinator.ca.authority import CertificateAuthority
    from coordinator.rpc.identity import Context
    from coordinator.store.store import Store

_log = logging.getLogger(__name__)

#: Of the enrolment listener; a request is under 1 KiB.
MAX_MESSAGE_BYTES = 16 * 1024
_MAX_ID_CHARS = 64
_MAX_SECRET_CHARS = 128
#: One audit entry counts all calls over the rate in this time.
_OVER_RATE_AUDITED_EVERY_MS = 60_000.0


@dataclass(frozen=True, slots=True)
class EnrolmentLimits:
    """Calls admitted, from one peer (IPv4 address or IPv6 /64) and from all together."""

    peer_per_s: float = 1.0
    peer_burst: float = 20.0
    overall_per_s: float = 20.0
    overall_burst: float = 200.0


class EnrolmentService(enrolment_pb2_grpc.EnrolmentServicer):
    """The enrolment listener's only service."""

    def __init__(
        self,
        *,
        store: Store,
        authority: CertificateAuthority,
        fleet_address: str,
        now_unix_ms: Callable[[], int],
        now_mono_ms: Callable[[], float],
        limits: EnrolmentLimits | None = None,
    ) -> None:
        """``fleet_address`` is host:port of the fleet listener as agents reach it."""
        limits = limits or EnrolmentLimits()
        self._store = store
        self._authority = authority
        self._fleet_address = fleet_address
        self._now_unix_ms = now_unix_ms
        self._now_mono_ms = now_mono_ms
        self._of_peer = RateLimit(per_s=limits.peer_per_s, burst=limits.peer_burst)
        self._overall = RateLimit(per_s=limits.overall_per_s, burst=limits.overall_burst)
        self._over_rate = 0
        self._over_rate_audited_mono_ms: float | None = None

    async def Enrol(
        self, request: enrolment_pb2.EnrolRequest, context: Context
    ) -> enrolment_pb2.EnrolResponse:
        """Redeem a token. Raises: Unauthenticated, InvalidRequest, Overloaded, StoreUnavailable."""
        address = peer_address(context)
        actor = f"anonymous@{address}"
        await self._admit(address, actor)
        try:
            key = public_key_of(request.csr_der)
        except InvalidRequest as error:
            _log.warning("enrolment refused peer=%s cause=bad_request: %s", address, error)
            await self._store.audit(actor, "enrolment.refused", _subject(request), error.message)
            raise
        try:
            redemption = await self._redeem(request, key, actor)
        except TokenRefused as refused:
            detail = f"cause={refused.cause} node={refused.node_id or 'unknown'}"
            subject = _subject(request)
            _log.warning("enrolment refused peer=%s %s %s", address, subject, detail)
            await self._store.audit(actor, "enrolment.refused", subject, detail)
            raise Unauthenticated(
                "the enrolment token is not valid",
                "ask an operator for a new one: edgeforge node token create --pop POP",
                code="enrolment_refused",
            ) from None
        _log.info(
            "node enrolled node=%s pop=%s peer=%s again=%s",
            *(redemption.node_id, redemption.pop_id, address, redemption.again),
        )
        return enrolment_pb2.EnrolResponse(
            node_id=redemption.node_id,
            pop_id=redemption.pop_id,
            certificate_pem=redemption.certificate_pem,
            ca_bundle_pem=self._authority.bundle_pem,
            fleet_address=self._fleet_address,
        )

    async def _redeem(
        self, request: enrolment_pb2.EnrolRequest, key: PublicKey, actor: str
    ) -> Redemption:
        """Raises: TokenRefused."""
        token = await self._store.token(request.token_id[:_MAX_ID_CHARS])
        presented = hashlib.sha256(request.secret[:_MAX_SECRET_CHARS].encode()).digest()
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
        issued = self._authority.issue_node_key(token.node_id, key)
        return await self._store.redeem_token(
            token.id,
            public_key_sha256=public_key_sha256(key),
            certificate_pem=issued.pem,
            serial=issued.serial,
            not_after_unix_ms=issued.not_after_unix_ms,
            actor=actor,
        )

    async def _admit(self, address: str, actor: str) -> None:
        """Raises: Overloaded. The peer's limit comes first, so that no peer uses up all of it."""
        now_mono_ms = self._now_mono_ms()
        wait_s = self._of_peer.take(network_of(address), now_mono_ms)
        if wait_s == 0.0:
            wait_s = self._overall.take("", now_mono_ms)
        if wait_s == 0.0:
            return
        self._over_rate += 1
        audited = self._over_rate_audited_mono_ms
        if audited is None or now_mono_ms - audited >= _OVER_RATE_AUDITED_EVERY_MS:
            count, self._over_rate = self._over_rate, 0
            self._over_rate_audited_mono_ms = now_mono_ms
            _log.warning("enrolment over its rate peer=%s refused_calls=%d", address, count)
            note = AuditNote(actor, "enrolment.limited", "enrolment", f"refused_calls={count}")
            await self._store.audit(note.actor, note.action, note.subject, note.detail)
        raise Overloaded(
            "too many enrolment calls", f"ask again in {wait_s:.0f} s", retry_after_s=wait_s
        )


def _subject(request: enrolment_pb2.EnrolRequest) -> str:
    return f"token/{request.token_id[:_MAX_ID_CHARS]!a}"
