"""Registry, accounts, prices and the routing table that all agents hold."""

import protos.grpc_environment  # noqa: F401 - before gRPC is imported
