"""The daemon on every GPU host: serves clients, places requests, runs the engine."""

import protos.grpc_environment  # noqa: F401 - before gRPC is imported
