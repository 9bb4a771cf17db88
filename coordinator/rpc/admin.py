"""The administration service: one gRPC class, inherited from one module for each resource."""

from __future__ import annotations

from coordinator.rpc.admin_base import AdminServicerBase
from coordinator.rpc.admin_customers import CustomerAdminServicer
from coordinator.rpc.admin_deployments import DeploymentAdminServicer
from coordinator.rpc.admin_fleet import FleetAdminServicer
from coordinator.rpc.admin_models import ModelAdminServicer
from coordinator.rpc.admin_nodes import NodeAdminServicer
from coordinator.rpc.admin_operators import OperatorAdminServicer
from coordinator.rpc.admin_traces import TraceAdminServicer
from protos.v1 import admin_pb2_grpc


class AdminService(
    NodeAdminServicer,
    ModelAdminServicer,
    DeploymentAdminServicer,
    CustomerAdminServicer,
    FleetAdminServicer,
    TraceAdminServicer,
    OperatorAdminServicer,
    AdminServicerBase,
    admin_pb2_grpc.AdminServicer,
):
    """Every call of ``admin.proto``: a request, a use case, a message.

    Behind an IdentityInterceptor that admits operators; ``operations`` checks their roles.
    """
