"""Renews the node's certificate daily; it is valid for weeks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from grpc import aio

from agent.link.errors import rpc_error
from agent.link.identity import Identity, load_identity, save_identity
from protos.domain.errors import EdgeForgeError, LinkDown
from protos.v1 import fleet_pb2, fleet_pb2_grpc

_log = logging.getLogger(__name__)

_DAY_MS = 86_400_000.0
_RETRY_MS = 600_000.0
_TIMEOUT_S = 30.0


def renewal_due_ms(identity: Identity, now_unix_ms: int, draw: float) -> float:
    """Return the time until renewal, which is due a day after issue with 10 % jitter."""
    due_unix_ms = identity.not_before_unix_ms + _DAY_MS * (0.9 + 0.2 * draw)
    return max(0.0, due_unix_ms - now_unix_ms)


async def renew(make_channel: Callable[[], aio.Channel], folder: Path) -> Identity:
    """Fetch a certificate for a new key and save it. Raises: EdgeForgeError."""
    # Imported on use: the module is large and needed once a day.
    from agent.link.enrol import identity_of, key_pem, load_or_make_key, signing_request

    old = load_identity(folder)
    key = load_or_make_key(folder)
    async with make_channel() as channel:
        stub = fleet_pb2_grpc.FleetStub(channel)
        try:
            response = await stub.Renew(
                fleet_pb2.RenewRequest(csr_der=signing_request(key)), timeout=_TIMEOUT_S
            )
        except aio.AioRpcError as error:
            raise rpc_error(error) from error
    identity = identity_of(
        response.certificate_pem,
        node_id=old.node_id,
        pop_id=old.pop_id,
        fleet_address=old.fleet_address,
    )
    save_identity(
        folder,
        identity,
        key_pem=key_pem(key),
        cert_pem=response.certificate_pem,
        ca_pem=response.ca_bundle_pem,
    )
    return identity


async def run_renewal(
    make_channel: Callable[[], aio.Channel],
    folder: Path,
    on_renewed: Callable[[Identity], None],
    now_unix_ms: Callable[[], int],
    draw: Callable[[], float],
) -> None:
    """Renew daily until cancelled; failures are retried."""
    while True:
        await asyncio.sleep(renewal_due_ms(load_identity(folder), now_unix_ms(), draw()) / 1_000)
        try:
            identity = await renew(make_channel, folder)
        except EdgeForgeError as error:
            level = logging.INFO if isinstance(error, LinkDown) else logging.WARNING
            _log.log(level, "certificate not renewed, trying again later reason=%s", error)
            await asyncio.sleep(_RETRY_MS * (0.5 + draw()) / 1_000)
        else:
            _log.info("certificate renewed not_after_unix_ms=%d", identity.not_after_unix_ms)
            on_renewed(identity)
