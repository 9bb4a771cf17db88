"""The server's certificate replaced in a running listener."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from grpc import aio

from coordinator.ca.authority import CertificateAuthority
from coordinator.clock import now_unix_ms
from coordinator.rpc.listeners import make_server
from coordinator.rpc.server_credentials import ServerCredentials
from protos.domain.certificates import DAY_MS
from tests.support.certificates import p256_key, private_pem, request_der

NAME = "coordinator.edgeforge.internal"


class Clock:
    """The coordinator's clock, wrong by so much."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return now_unix_ms() + self.ahead_ms


async def answers(port: int, ca_pem: bytes, pair: tuple[bytes, bytes] | None) -> bool:
    """Whether a new client gets through TLS."""
    key, certificate = pair or (None, None)
    credentials = grpc.ssl_channel_credentials(ca_pem, key, certificate)
    options = (("grpc.ssl_target_name_override", NAME),)
    async with aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        call = channel.unary_unary("/none/None")
        try:
            await call(b"", timeout=5)
        except aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.UNIMPLEMENTED
    raise AssertionError("there is no such method")


@pytest.mark.parametrize("mutual", [True, False])
async def test_a_certificate_made_under_a_wrong_clock_is_replaced_without_a_restart(
    tmp_path: Path, mutual: bool
) -> None:
    clock = Clock()
    authority = CertificateAuthority.create(tmp_path / "ca", now_unix_ms=clock)
    key = p256_key()
    pair = (private_pem(key), authority.issue_node("gru-1", request_der(key)).pem)
    clock.ahead_ms = 400 * DAY_MS
    credentials = ServerCredentials(authority, "coordinator", clock)
    server = make_server([], max_calls=10, max_message_bytes=65_536)
    of_listener = credentials.mutual() if mutual else credentials.server_only()
    port = server.add_secure_port("127.0.0.1:0", of_listener)
    await server.start()
    client = pair if mutual else None
    try:
        assert not await answers(port, authority.bundle_pem, client), "not valid yet"
        assert not credentials.renew_if_due(), "the clock agrees with it"
        clock.ahead_ms = 0
        assert credentials.renew_if_due()
        assert not credentials.renew_if_due()
        assert await answers(port, authority.bundle_pem, client)
        if mutual:
            assert not await answers(port, authority.bundle_pem, None), "still mutual"
    finally:
        await server.stop(None)


@pytest.mark.parametrize("days", [2, 30, 31])
async def test_a_clock_that_was_a_month_ahead_or_behind_cuts_nobody_off(
    tmp_path: Path, days: int
) -> None:
    """Authority, node and server made under a clock that was ahead are valid by the right one."""
    clock = Clock()
    clock.ahead_ms = days * DAY_MS
    authority = CertificateAuthority.create(tmp_path / "ca", now_unix_ms=clock)
    key = p256_key()
    pair = (private_pem(key), authority.issue_node("gru-1", request_der(key)).pem)
    credentials = ServerCredentials(authority, "coordinator", clock)
    server = make_server([], max_calls=10, max_message_bytes=65_536)
    port = server.add_secure_port("127.0.0.1:0", credentials.mutual())
    await server.start()
    try:
        assert await answers(port, authority.bundle_pem, pair)
    finally:
        await server.stop(None)
