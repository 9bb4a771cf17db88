"""Asks the coordinator whether it knows this node, and how others see it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpc import aio

from agent.link.channel import node_channel
from agent.link.errors import rpc_error
from protos.v1 import (
    fleet_pb2,
    fleet_pb2_grpc,
    quota_pb2,
    quota_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
)

if TYPE_CHECKING:
    from agent.link.identity import StoredIdentity


@dataclass(frozen=True, slots=True)
class CoordinatorView:
    """What the coordinator answered; ``unix_ms`` is its clock."""

    node_id: str
    unix_ms: int
    #: In the table; empty before this node has connected once.
    peer_host: str
    peer_port: int
    #: The node that last dialled that address, and what failed; empty for none.
    dialled_by: str
    dial_failure: str


async def ask_coordinator(
    address: str, stored: StoredIdentity, timeout_ms: float
) -> CoordinatorView:
    """Log in with this node's certificate. Raises: EdgeForgeError, such as Forbidden, LinkDown."""
    async with node_channel(address, stored) as channel:
        stub = fleet_pb2_grpc.FleetStub(channel)
        try:
            answer = await stub.Check(fleet_pb2.CheckRequest(), timeout=timeout_ms / 1_000)
        except aio.AioRpcError as error:
            raise rpc_error(error) from error
    return CoordinatorView(
        answer.node_id,
        answer.unix_ms,
        answer.peer_host,
        answer.peer_port,
        answer.dialled_by,
        answer.dial_failure,
    )


async def ask_usage_services(
    address: str, stored: StoredIdentity, now_unix_ms: int, timeout_ms: float
) -> None:
    """Ask for a spool's watermark and for no quota, which changes nothing. Raises: EdgeForgeError.

    LinkDown: it cannot be reached, or its version has no such services.
    """
    timeout_s = timeout_ms / 1_000
    ask = usage_pb2.UsageBatch(spool_id="0" * 32, first_seq=1, last_seq=0)
    lease = quota_pb2.LeaseRequest(boot_id=uuid.uuid4().hex, seq=now_unix_ms)
    async with node_channel(address, stored) as channel:
        try:
            await usage_pb2_grpc.MeteringStub(channel).Push(ask, timeout=timeout_s)
            await quota_pb2_grpc.QuotaStub(channel).Lease(lease, timeout=timeout_s)
        except aio.AioRpcError as error:
            raise rpc_error(error) from error
