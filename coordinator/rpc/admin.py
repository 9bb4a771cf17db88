"""The administration service: one gRPC class, inherited from one module for each resource."""

from __future__ import annotations

from coordinator.rpc.admin_customers import CustomerAdminServicer
from coordinator.rpc.admin_deployments import DeploymentAdminServicer
from coordinator.rpc.admin_fleet import FleetAdminServicer
from coordinator.rpc.admin_models import ModelAdminServicer
from coordinator.rpc.admin_nodes import NodeAdminServicer
from coordinator.rpc.admin_parts import AdminParts
from coordinator.rpc.admin_traces import TraceAdminServicer
from protos.v1 import admin_pb2_grpc

__all__ = ["AdminParts", "AdminService"]


class AdminService(
    NodeAdminServicer,
    ModelAdminServicer,
    DeploymentAdminServicer,
    CustomerAdminServicer,
    FleetAdminServicer,
    TraceAdminServicer,
    admin_pb2_grpc.AdminServicer,
):
    """Every call of ``admin.proto``.

    Behind an IdentityInterceptor that admits operators; each change is audited in the transaction
    that makes it.
    """

    def __init__(self, parts: AdminParts) -> None:
        super().__init__(parts)
