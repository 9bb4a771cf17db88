"""Enrolment: exchanges a one-time token and a signed certificate request for a certificate.

The caller is not authenticated, so that calls are limited before anything else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.rate_limit import RateLimit
from coordinator.rpc.identity import network_of, peer_address
from coordinator.store import audit
from coordinator.store.records import AuditNote
from protos.domain.errors import Overloaded
from protos.v1 import enrolment_pb2, enrolment_pb2_grpc

if TYPE_CHECKING:
    from coordinator.operations.node_certificates import NodeCertificates
    from coordinator.operations.operator_certificates import OperatorCertificates
    from coordinator.rpc.identity import Context
    from coordinator.store.store import Store

_log = logging.getLogger(__name__)

#: Of the enrolment listener; a request is under 1 KiB.
MAX_MESSAGE_BYTES = 16 * 1024
#: One audit entry counts all calls over the rate in this time.
_OVER_RATE_AUDITED_EVERY_MS = 60_000.0


@dataclass(frozen=True, slots=True)
class EnrolmentLimits:
    """Calls admitted, from one peer (IPv4 address or IPv6 /64) and from all together."""

    peer_per_s: float = 1.0
    peer_burst: float = 20.0
    overall_per_s: float = 20.0
    overall_burst: float = 200.0


@dataclass(frozen=True, slots=True)
class AdminListener:
    """Where operators connect after they have enrolled: host:port."""

    address: str
    on_loopback: bool


class EnrolmentService(enrolment_pb2_grpc.EnrolmentServicer):
    """The enrolment listener's only service."""

    def __init__(
        self,
        *,
        store: Store,
        certificates: NodeCertificates,
        operators: OperatorCertificates,
        fleet_address: str,
        admin: AdminListener,
        now_mono_ms: Callable[[], float],
        limits: EnrolmentLimits | None = None,
    ) -> None:
        """``fleet_address`` is host:port of the fleet listener as agents reach it."""
        limits = limits or EnrolmentLimits()
        self._store = store
        self._certificates = certificates
        self._operators = operators
        self._fleet_address = fleet_address
        self._admin = admin
        self._now_mono_ms = now_mono_ms
        self._of_peer = RateLimit(per_s=limits.peer_per_s, burst=limits.peer_burst)
        self._overall = RateLimit(per_s=limits.overall_per_s, burst=limits.overall_burst)
        self._over_rate = 0
        self._over_rate_audited_mono_ms: float | None = None

    async def Enrol(
        self, request: enrolment_pb2.EnrolRequest, context: Context
    ) -> enrolment_pb2.EnrolResponse:
        """Redeem a token. Raises: Unauthenticated, InvalidRequest, Overloaded, StoreUnavailable."""
        actor = await self._admit(context)
        granted = await self._certificates.enrol(
            actor, request.token_id, request.secret, request.csr_der
        )
        return enrolment_pb2.EnrolResponse(
            node_id=granted.node_id,
            pop_id=granted.pop_id,
            certificate_pem=granted.certificate_pem,
            ca_bundle_pem=granted.ca_bundle_pem,
            fleet_address=self._fleet_address,
        )

    async def EnrolOperator(
        self, request: enrolment_pb2.EnrolOperatorRequest, context: Context
    ) -> enrolment_pb2.EnrolOperatorResponse:
        """Redeem an invitation. Raises: as Enrol."""
        actor = await self._admit(context)
        granted = await self._operators.enrol(
            actor, request.token_id, request.secret, request.csr_der
        )
        return enrolment_pb2.EnrolOperatorResponse(
            name=granted.name,
            role=granted.role,
            certificate_pem=granted.certificate_pem,
            ca_bundle_pem=granted.ca_bundle_pem,
            admin_address=self._admin.address,
            admin_on_loopback=self._admin.on_loopback,
        )

    async def _admit(self, context: Context) -> str:
        """Return who calls. Raises: Overloaded.

        The peer's limit comes first, so that no peer uses up all of the overall one.
        """
        address = peer_address(context)
        actor = f"anonymous@{address}"
        now_mono_ms = self._now_mono_ms()
        wait_s = self._of_peer.take(network_of(address), now_mono_ms)
        if wait_s == 0.0:
            wait_s = self._overall.take("", now_mono_ms)
        if wait_s == 0.0:
            return actor
        self._over_rate += 1
        audited = self._over_rate_audited_mono_ms
        if audited is None or now_mono_ms - audited >= _OVER_RATE_AUDITED_EVERY_MS:
            count, self._over_rate = self._over_rate, 0
            self._over_rate_audited_mono_ms = now_mono_ms
            _log.warning("enrolment over its rate peer=%s refused_calls=%d", address, count)
            note = AuditNote(actor, "enrolment.limited", "enrolment", f"refused_calls={count}")
            await self._store.write(audit.append(note))
        raise Overloaded(
            "too many enrolment calls", f"ask again in {wait_s:.0f} s", retry_after_s=wait_s
        )
