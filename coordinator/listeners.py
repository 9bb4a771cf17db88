"""The coordinator's listeners for gRPC and plain HTTP, put together from the configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from coordinator import clock
from coordinator.api.http import HttpListener, HttpParts
from coordinator.api.metrics import make_metrics
from coordinator.core.fleet_figures import FleetGauges
from coordinator.operations.node_certificates import NodeCertificates
from coordinator.operations.prices import public_card
from coordinator.rpc.admin import AdminService
from coordinator.rpc.admin_accounts import AccountsService
from coordinator.rpc.admin_adoption import AdoptionService
from coordinator.rpc.admin_billing import BillingService
from coordinator.rpc.admin_deploys import DeployService
from coordinator.rpc.admin_prices import PriceService
from coordinator.rpc.admin_registry import RegistryService
from coordinator.rpc.admin_reports import ReportService
from coordinator.rpc.admin_residency import ResidencyService
from coordinator.rpc.enrolment import MAX_MESSAGE_BYTES, AdminListener, EnrolmentService
from coordinator.rpc.identity import IdentityKind
from coordinator.rpc.interceptors import ErrorInterceptor, IdentityInterceptor
from coordinator.rpc.listeners import Server, bind, make_server
from coordinator.rpc.metering import MeteringService
from coordinator.rpc.operator_rows import UNKNOWN_HINT, OperatorRows
from coordinator.rpc.usage_reports import UsageReportsService
from coordinator.store import audit
from protos.domain.addresses import join_address
from protos.domain.resources import ResourceType
from protos.v1.accounts_pb2_grpc import add_AccountsServicer_to_server
from protos.v1.admin_pb2_grpc import add_AdminServicer_to_server
from protos.v1.adoption_pb2_grpc import add_AdoptionServicer_to_server
from protos.v1.billing_pb2_grpc import add_BillingServicer_to_server
from protos.v1.deploy_pb2_grpc import add_DeploysServicer_to_server
from protos.v1.enrolment_pb2_grpc import add_EnrolmentServicer_to_server
from protos.v1.prices_pb2_grpc import add_PricesServicer_to_server, add_ReportsServicer_to_server
from protos.v1.quota_pb2_grpc import add_QuotaServicer_to_server
from protos.v1.registry_pb2_grpc import add_RegistryServicer_to_server
from protos.v1.residency_pb2_grpc import add_AccountResidencyServicer_to_server
from protos.v1.usage_pb2_grpc import (
    add_MeteringServicer_to_server,
    add_UsageReportsServicer_to_server,
)

if TYPE_CHECKING:
    import asyncio

    from coordinator.assembly import Fleet, Usage
    from coordinator.ca.authority import CertificateAuthority
    from coordinator.config import CoordinatorConfig
    from coordinator.operations.operations import Operations
    from coordinator.operations.operator_certificates import OperatorCertificates
    from coordinator.rpc.running_calls import RunningCalls
    from coordinator.rpc.server_credentials import ServerCredentials
    from coordinator.store.records import AuditNote
    from coordinator.store.store import Store

#: Calls that the fleet listener admits beside streams and files: renewals, refused streams.
_SPARE_FLEET_CALLS = 256
_SHARED_TYPES = tuple(one for one in ResourceType if one is not ResourceType.DESIRED)


def make_servers(
    config: CoordinatorConfig,
    store: Store,
    authority: CertificateAuthority,
    credentials: ServerCredentials,
    fleet: Fleet,
    operations: Operations,
    operator_certificates: OperatorCertificates,
    calls: RunningCalls,
    usage: Usage,
) -> list[Server]:
    """Return the three gRPC listeners, bound. Raises: ConfigInvalid."""
    limits = config.limits
    addresses = {name: join_address(*where) for name, where in config.listeners().items()}

    def appended(note: AuditNote) -> Awaitable[None]:
        return store.write(audit.append(note))

    nodes_only = IdentityInterceptor(
        {IdentityKind.NODE},
        audit=appended,
        now_mono_ms=clock.now_mono_ms,
        is_known=lambda identity: store.node_record(identity.name) is not None,
        was_removed=lambda identity: store.was_enrolled(identity.name),
    )
    fleet_server = make_server(
        [ErrorInterceptor(clock.now_mono_ms), nodes_only],
        max_calls=limits.max_agents + limits.blob_streams + _SPARE_FLEET_CALLS,
        max_message_bytes=limits.max_message_bytes,
    )
    fleet_server.add_generic_rpc_handlers((fleet.service.handler(),))
    add_QuotaServicer_to_server(fleet.quota, fleet_server)
    metering = MeteringService(
        usage.ingest,
        store,
        zone=config.coordinator.zone,
        now_mono_ms=clock.now_mono_ms,
        now_unix_ms=clock.now_unix_ms,
        agents=lambda: fleet.registry.connected,
    )
    add_MeteringServicer_to_server(metering, fleet_server)
    bind(fleet_server, "fleet", addresses["fleet"], credentials.mutual())

    admin_server = _make_admin_server(config, store, operations, calls, appended)
    bind(admin_server, "admin", addresses["admin"], credentials.mutual())

    enrolment_server = make_server(
        [ErrorInterceptor(clock.now_mono_ms)],
        max_calls=limits.max_enrolment_calls,
        max_message_bytes=MAX_MESSAGE_BYTES,
    )
    enrolment = EnrolmentService(
        store=store,
        certificates=NodeCertificates(store, authority, clock.now_unix_ms),
        operators=operator_certificates,
        fleet_address=config.fleet_address,
        admin=AdminListener(config.admin_address, "admin" in config.loopback_listeners),
        now_mono_ms=clock.now_mono_ms,
    )
    add_EnrolmentServicer_to_server(enrolment, enrolment_server)
    bind(enrolment_server, "enrolment", addresses["enrolment"], credentials.server_only())
    return [fleet_server, admin_server, enrolment_server]


def _make_admin_server(
    config: CoordinatorConfig,
    store: Store,
    operations: Operations,
    calls: RunningCalls,
    audited: Callable[[AuditNote], Awaitable[None]],
) -> Server:
    """Return the operators' listener, not bound."""
    rows = OperatorRows(store)
    operators_only = IdentityInterceptor(
        {IdentityKind.OPERATOR},
        audit=audited,
        now_mono_ms=clock.now_mono_ms,
        is_known=rows.is_known,
        unknown_hint=UNKNOWN_HINT,
        calls=calls,
    )
    admin_server = make_server(
        [ErrorInterceptor(), operators_only],
        max_calls=config.limits.max_admin_calls,
        max_message_bytes=config.limits.max_message_bytes,
    )
    add_AdminServicer_to_server(AdminService(operations, rows.role_of), admin_server)
    add_RegistryServicer_to_server(RegistryService(operations, rows.role_of), admin_server)
    add_AdoptionServicer_to_server(AdoptionService(operations, rows.role_of), admin_server)
    add_DeploysServicer_to_server(DeployService(operations, rows.role_of), admin_server)
    accounts = AccountsService(operations, rows.role_of, config.api_endpoint)
    add_AccountsServicer_to_server(accounts, admin_server)
    add_BillingServicer_to_server(BillingService(operations, rows.role_of), admin_server)
    add_PricesServicer_to_server(PriceService(operations, rows.role_of), admin_server)
    add_ReportsServicer_to_server(ReportService(operations, rows.role_of), admin_server)
    add_UsageReportsServicer_to_server(UsageReportsService(operations, rows.role_of), admin_server)
    add_AccountResidencyServicer_to_server(ResidencyService(operations, rows.role_of), admin_server)
    return admin_server


def make_http(
    config: CoordinatorConfig,
    store: Store,
    fleet: Fleet,
    usage: Usage,
    stopping: asyncio.Event,
) -> HttpListener:
    """Return the listener of probes, figures and the price card, not started."""

    def missing() -> list[str]:
        reasons = [] if store.available else ["the database cannot be written"]
        if not usage.database.available:
            reasons.append("the usage database cannot be written")
        return [*reasons, *(["the coordinator is stopping"] if stopping.is_set() else [])]

    def gauges() -> FleetGauges:
        view = store.view()
        tables = {one: store.table(one) for one in _SHARED_TYPES}
        return FleetGauges(
            agents_connected=fleet.registry.connected,
            nodes=Counter(str(node.health) for node in view.nodes.values()),
            frozen=fleet.supervisor.frozen,
            unplaced=fleet.placement.unplaced,
            peers_unreachable=fleet.dialer.failing,
            twins=fleet.registry.twins,
            store_available=store.available,
            usage_available=usage.database.available,
            epoch=store.epoch,
            tables={str(one): (table.at.version, len(table.rows)) for one, table in tables.items()},
        )

    parts = HttpParts(
        missing=missing,
        card=lambda: public_card(store),
        now_unix_ms=clock.now_unix_ms,
        metrics=make_metrics(fleet.counters, gauges, usage.ingest.counters),
    )
    http = config.http
    return HttpListener(
        parts, http.host, http.port, max_connections=config.limits.max_http_connections
    )
