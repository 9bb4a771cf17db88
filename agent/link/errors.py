"""Translation of failed gRPC calls into errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from protos.domain.errors import LinkDown
from protos.wire.errors import error_from_metadata

if TYPE_CHECKING:
    from grpc import aio

    from protos.domain.errors import EdgeForgeError


def rpc_error(error: aio.AioRpcError) -> EdgeForgeError:
    """Return the error that the coordinator reported, with its hint."""
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return LinkDown(
            "the coordinator is of a version without this service",
            "upgrade the coordinator before its agents",
        )
    metadata = error.trailing_metadata() or ()
    pairs = [(str(key), value) for key, value in metadata]
    return error_from_metadata(error.code().name, error.details() or "", pairs)
