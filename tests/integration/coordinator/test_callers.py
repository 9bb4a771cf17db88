"""Fault 9: who may call administration, and how others are refused."""

from __future__ import annotations

import grpc
import pytest
from grpc import aio

from coordinator.ca.authority import CertificateAuthority
from coordinator.core.operators import Role
from coordinator.rpc.interceptors import ErrorInterceptor
from coordinator.rpc.listeners import make_server
from protos.domain.errors import (
    EdgeForgeError,
    EngineFailed,
    Forbidden,
    LinkDown,
    NotFound,
    Overloaded,
    Unauthenticated,
)
from protos.v1 import admin_pb2, admin_pb2_grpc, enrolment_pb2, fleet_pb2, fleet_pb2_grpc
from tests.support.certificates import fleet_signed_pem, p256_key, private_pem, self_signed_pem
from tests.support.operator_listeners import failure_of
from tests.support.stores import audited


def list_pops(channel):
    return admin_pb2_grpc.AdminStub(channel).ListPops(admin_pb2.ListPopsRequest(), timeout=30)


async def test_an_operator_may(listeners):
    async with listeners.operator_channel() as channel:
        assert await list_pops(channel) == admin_pb2.ListPopsResponse()


async def test_a_node_may_not_and_its_refusal_is_audited(listeners, caplog):
    async with listeners.node_channel("gru-1") as channel:
        error = await failure_of(list_pops(channel))
    assert type(error) is Forbidden
    assert "operator" in error.hint
    (entry,) = await audited(listeners.store, 10)
    assert (entry.note.actor, entry.note.action) == ("node/gru-1", "rpc.refused")
    assert entry.note.subject == "/edgeforge.v1.Admin/ListPops"
    assert "caller=node/gru-1" in caplog.text


async def test_every_rpc_is_refused_to_a_node(listeners):
    methods = admin_pb2.DESCRIPTOR.services_by_name["Admin"].methods
    assert len(methods) > 20
    async with listeners.node_channel("gru-1") as channel:
        for method in methods:
            path = f"/edgeforge.v1.Admin/{method.name}"
            if method.client_streaming:
                call = channel.stream_unary(path)(iter([b""]), timeout=30)
            else:
                call = channel.unary_unary(path)(b"", timeout=30)
            assert type(await failure_of(call)) is Forbidden, method.name


async def test_repeated_refusals_do_not_fill_the_audit(listeners):
    async with listeners.node_channel("gru-1") as channel:
        for _ in range(40):
            await failure_of(list_pops(channel))
    assert len(await audited(listeners.store, 100)) == 1, "the same refusal, once an hour"


async def test_clients_without_a_certificate_of_this_authority_fail_the_handshake(
    listeners, tmp_path
):
    stranger = CertificateAuthority.create(tmp_path / "stranger", now_unix_ms=listeners.clock)
    key_pem, issued = stranger.new_operator("ana")
    key = p256_key()
    for pair in (
        (None, None),
        (key_pem, issued.pem),
        (private_pem(key), self_signed_pem(key, ("edgeforge://operator/ana",))),
    ):
        async with listeners.channel(listeners.admin_port, *pair) as channel:
            assert type(await failure_of(list_pops(channel))) is LinkDown
    assert await audited(listeners.store, 10) == []


async def test_an_expired_certificate_fails_the_handshake(listeners):
    listeners.clock.unix_ms -= 400 * 24 * 3_600_000
    expired = await listeners.admit("ana", Role.ADMIN)
    async with listeners.channel(listeners.admin_port, *expired) as channel:
        assert type(await failure_of(list_pops(channel))) is LinkDown


async def test_a_coordinators_certificate_is_not_accepted_as_an_operators(listeners):
    key_pem, chain_pem = listeners.authority.new_coordinator("coordinator")
    async with listeners.channel(listeners.admin_port, key_pem, chain_pem) as channel:
        error = await failure_of(list_pops(channel))
    assert type(error) in (Forbidden, LinkDown)


@pytest.mark.parametrize(
    "uris",
    [
        ("edgeforge://operator/ana", "edgeforge://node/gru-1"),
        ("edgeforge://node/gru-1", "edgeforge://operator/ana"),
        ("edgeforge://operator/ana", "edgeforge://operator/bob"),
    ],
)
async def test_a_certificate_with_two_names_does_not_administer(listeners, tmp_path, uris):
    key = p256_key()
    authority_pem = (tmp_path / "ca" / "authority.pem").read_bytes()
    pem = fleet_signed_pem(authority_pem, key, uris)
    async with listeners.channel(listeners.admin_port, private_pem(key), pem) as channel:
        error = await failure_of(list_pops(channel))
    assert type(error) is Unauthenticated
    assert "exactly one party" in error.message


async def test_the_enrolment_listener_needs_no_certificate_and_serves_enrolment_only(listeners):
    async with listeners.channel(listeners.enrolment_port) as channel:
        enrol = channel.unary_unary("/edgeforge.v1.Enrolment/Enrol")
        request = enrolment_pb2.EnrolRequest().SerializeToString()
        assert not isinstance(await failure_of(enrol(request)), LinkDown)
        error = await failure_of(list_pops(channel))
        assert type(error) is EdgeForgeError
        assert "not found" in error.message.lower()


class Failing(fleet_pb2_grpc.FleetServicer):
    """Fails in every way and on every kind of call, as its caller names it."""

    async def Renew(self, request, context):
        raise _ERRORS[request.csr_der]

    async def FetchBlob(self, request, context):
        yield fleet_pb2.BlobChunk(data=b"one")
        raise _ERRORS[request.sha256]

    async def Connect(self, request_iterator, context):
        async for _ in request_iterator:
            await context.write(fleet_pb2.CoordinatorMessage())
            raise _ERRORS[b"known"]


_ERRORS = {
    b"known": NotFound("no such thing", "ask for another — 別の", retryable=False),
    b"later": Overloaded("busy", "wait", retry_after_s=2.5),
    b"bug": KeyError("secret-of-the-house"),
    b"engine": EngineFailed("gone"),
}


@pytest.fixture
async def failing():
    server = make_server([ErrorInterceptor()], max_calls=10, max_message_bytes=1_000_000)
    fleet_pb2_grpc.add_FleetServicer_to_server(Failing(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield fleet_pb2_grpc.FleetStub(channel)
    await server.stop(0)


async def drain(call):
    return [message async for message in call]


async def test_errors_keep_kind_hint_and_wait(failing):
    known = await failure_of(failing.Renew(fleet_pb2.RenewRequest(csr_der=b"known")))
    assert (type(known), known.message, known.hint) == (
        NotFound,
        "no such thing",
        "ask for another — 別の",
    )
    later = await failure_of(failing.Renew(fleet_pb2.RenewRequest(csr_der=b"later")))
    assert (type(later), later.retry_after_s, later.retryable) == (Overloaded, 2.5, True)


async def test_streams_end_with_the_same_errors(failing):
    call = failing.FetchBlob(fleet_pb2.FetchBlobRequest(sha256=b"known"))
    assert (await anext(aiter(call))).data == b"one"
    assert type(await failure_of(drain(call))) is NotFound
    both = failing.Connect(iter([fleet_pb2.AgentMessage()]))
    assert type(await failure_of(drain(both))) is NotFound


async def test_a_bug_is_logged_and_not_shown(failing, caplog):
    error = await failure_of(failing.Renew(fleet_pb2.RenewRequest(csr_der=b"bug")))
    assert type(error) is EdgeForgeError
    assert not error.retryable
    assert "secret-of-the-house" not in error.message + error.hint
    assert "secret-of-the-house" in caplog.text
    assert "rpc failed method=/edgeforge.v1.Fleet/Renew" in caplog.text


async def test_codes_are_those_of_the_table(failing):
    with pytest.raises(aio.AioRpcError) as caught:
        await failing.Renew(fleet_pb2.RenewRequest(csr_der=b"engine"))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
