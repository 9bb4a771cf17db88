"""Who is admitted to a listener, and which refusals the audit keeps."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import grpc
import pytest

from coordinator.rpc.identity import IdentityKind
from coordinator.rpc.interceptors import ErrorInterceptor, IdentityInterceptor
from protos.domain.errors import Forbidden, Overloaded, Unauthenticated
from tests.support.certificates import p256_key, self_signed_pem

NODE_PEM = self_signed_pem(p256_key(), ("edgeforge://node/gru-1",))


def context(*pems: bytes) -> SimpleNamespace:
    """A call with these client certificates."""
    found = {"x509_pem_cert": list(pems)} if pems else {}
    return SimpleNamespace(auth_context=lambda: found, peer=lambda: "ipv4:192.0.2.7:1000")


@pytest.fixture
def clock():
    return SimpleNamespace(mono_ms=0.0)


@pytest.fixture
def audited():
    return []


@pytest.fixture
def interceptor(clock, audited):
    async def audit(note):
        audited.append((note.actor, note.subject))

    return IdentityInterceptor(
        [IdentityKind.NODE],
        audit=audit,
        now_mono_ms=lambda: clock.mono_ms,
        is_known=lambda identity: False,
        was_removed=lambda identity: True,
    )


async def refused(interceptor, method, *pems):
    with pytest.raises((Forbidden, Unauthenticated)):
        await interceptor._admit(context(*pems), method)


async def test_a_removed_node_that_asks_for_ever_does_not_hide_the_acts_of_operators(
    interceptor, clock, audited
):
    for _ in range(24 * 120):  # a day, every 30 s
        await refused(interceptor, "/Fleet/Connect", NODE_PEM)
        clock.mono_ms += 30_000
    assert len(audited) == 24
    await refused(interceptor, "/Fleet/Renew", NODE_PEM)
    assert audited[-1] == ("node/gru-1", "/Fleet/Renew"), "another refusal is another entry"


async def test_strangers_are_kept_apart_and_limited_by_address_alone(interceptor, audited):
    for _ in range(100):
        await refused(interceptor, "/Fleet/Connect")
    assert audited == [("anonymous@192.0.2.7", "/Fleet/Connect")] * 10


async def test_a_flood_of_refused_calls_of_strangers_is_a_few_lines_of_the_log(clock, caplog):
    async def refuse(_request, _context):
        raise Overloaded("too many enrolment calls")

    async def found(_details):
        return grpc.unary_unary_rpc_method_handler(refuse)

    async def abort(*_answer):
        pass

    errors = ErrorInterceptor(lambda: clock.mono_ms)
    handler = await errors.intercept_service(found, SimpleNamespace(method="/Enrolment/Enrol"))
    caplog.set_level(logging.INFO)
    for _ in range(2):
        for _ in range(1_000):
            await handler.unary_unary(None, SimpleNamespace(abort=abort))
        clock.mono_ms += 60_000
    lines = [one.getMessage() for one in caplog.records]
    assert len(lines) == 10
    assert "left_out=995: too many" in lines[5]


async def test_a_removed_node_that_hammers_is_a_few_lines_of_the_log(interceptor, caplog):
    for _ in range(1_000):
        await refused(interceptor, "/Fleet/Connect", NODE_PEM)
    assert len(caplog.records) == 5
