"""Asks the coordinator whether it knows this node, and how others see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpc import aio

from agent.link.channel import node_channel
from agent.link.errors import rpc_error
from protos.v1 import fleet_pb2, fleet_pb2_grpc

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
