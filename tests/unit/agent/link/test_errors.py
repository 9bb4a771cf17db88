"""Failed calls, as errors that say what to do."""

from __future__ import annotations

import grpc
from grpc import aio

from agent.link.errors import rpc_error
from protos.domain.errors import LinkDown


def test_a_coordinator_of_the_version_before_is_named_as_such() -> None:
    """It has no service for usage and quota: records wait, and the reason can be acted on."""
    error = rpc_error(
        aio.AioRpcError(
            grpc.StatusCode.UNIMPLEMENTED, aio.Metadata(), aio.Metadata(), "Method not found!"
        )
    )
    assert isinstance(error, LinkDown)
    assert error.retryable
    assert "version" in error.message
    assert "upgrade the coordinator" in error.hint
