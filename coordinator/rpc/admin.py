"""The administration service: one class for gRPC, one module for each noun."""

from __future__ import annotations

from coordinator.rpc.admin_customers import CustomerRoom
from coordinator.rpc.admin_deployments import DeploymentRoom
from coordinator.rpc.admin_fleet import FleetRoom
from coordinator.rpc.admin_models import ModelRoom
from coordinator.rpc.admin_nodes import NodeRoom
from coordinator.rpc.admin_parts import AdminParts
from coordinator.rpc.admin_traces import TraceRoom
from protos.v1 import admin_pb2_grpc

__all__ = ["AdminParts", "AdminService"]


class AdminService(
    NodeRoom,
    ModelRoom,
    DeploymentRoom,
    CustomerRoom,
    FleetRoom,
    TraceRoom,
    admin_pb2_grpc.AdminServicer,
):
    """Every call of ``admin.proto``.

    Behind an IdentityInterceptor that admits operators; each change is audited in the transaction
    that makes it.
    """

    def __init__(self, parts: AdminParts) -> None:
        super().__init__(parts)
