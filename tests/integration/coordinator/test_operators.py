"""Operators' certificates against their rows, over the real listeners."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from coordinator.core.operators import Role
from coordinator.store import operators
from protos.domain.errors import Forbidden, Overloaded, Unauthenticated
from protos.v1 import admin_pb2, resources_pb2
from protos.v1.admin_pb2_grpc import AdminStub
from protos.v1.enrolment_pb2 import EnrolOperatorRequest
from protos.v1.enrolment_pb2_grpc import EnrolmentStub
from tests.support.certificates import p256_key, private_pem
from tests.support.operator_listeners import ADMIN_ADDRESS, enrol_request_parts, failure_of
from tests.support.stores import audited

POP = admin_pb2.CreatePopRequest(
    pop=resources_pb2.Pop(id="FOR", tier=resources_pb2.TIER_EDGE, zone="BR", city="Fortaleza")
)


def as_(listeners, pair):
    return listeners.channel(listeners.admin_port, *pair)


def list_operators(channel):
    return AdminStub(channel).ListOperators(admin_pb2.ListOperatorsRequest())


async def test_a_certificate_signed_for_any_name_is_no_operator(listeners):
    key_pem, issued = listeners.authority.new_operator("whatever")
    async with as_(listeners, (key_pem, issued.pem)) as channel:
        error = await failure_of(list_operators(channel))
    assert type(error) is Forbidden
    assert "edgeforge operator invite" in error.hint
    (entry,) = await audited(listeners.store, 1)
    assert (entry.note.actor, entry.note.action) == ("operator/whatever", "rpc.refused")


async def test_a_certificate_for_a_known_name_but_another_key_is_refused(listeners):
    key_pem, issued = listeners.authority.new_operator("ana")
    async with as_(listeners, (key_pem, issued.pem)) as channel:
        assert type(await failure_of(list_operators(channel))) is Forbidden


async def test_the_role_is_the_rows_at_each_call_and_not_the_certificates(listeners):
    bo = await listeners.admit("bo", Role.VIEWER)
    async with as_(listeners, bo) as channel, listeners.operator_channel() as ana:
        assert (await list_operators(channel)).caller == "bo"
        assert (
            "has the role viewer" in (await failure_of(AdminStub(channel).CreatePop(POP))).message
        )
        promoted = admin_pb2.SetOperatorRoleRequest(name="bo", role="admin")
        assert (await AdminStub(ana).SetOperatorRole(promoted)).role == "admin"
        assert (await AdminStub(channel).CreatePop(POP)).id == "FOR"


async def test_a_revoked_operator_is_refused_on_every_rpc_at_once(listeners):
    bo = await listeners.admit("bo", Role.ADMIN)
    async with as_(listeners, bo) as channel, listeners.operator_channel() as ana:
        await list_operators(channel)
        await AdminStub(ana).RevokeOperator(admin_pb2.RevokeOperatorRequest(name="bo"))
        for method in admin_pb2.DESCRIPTOR.services_by_name["Admin"].methods:
            path = f"/edgeforge.v1.Admin/{method.name}"
            if method.client_streaming:
                call = channel.stream_unary(path)(iter([b""]), timeout=30)
            else:
                call = channel.unary_unary(path)(b"", timeout=30)
            assert type(await failure_of(call)) is Forbidden, method.name


@pytest.mark.parametrize("how", ["revoked", "demoted"])
async def test_an_upload_of_a_revoked_or_demoted_operator_ends(listeners, how):
    bo = await listeners.admit("bo", Role.OPERATOR)
    arrived = asyncio.Event()

    async def chunks():
        yield admin_pb2.UploadBlobRequest(sha256=b"s" * 32, size_bytes=1_000_000)
        arrived.set()
        await asyncio.Event().wait()

    async with as_(listeners, bo) as channel, listeners.operator_channel() as ana:
        upload = AdminStub(channel).UploadBlob(chunks(), timeout=60)
        await arrived.wait()
        await list_operators(channel)  # the upload before it on this connection is in progress
        if how == "revoked":
            await AdminStub(ana).RevokeOperator(admin_pb2.RevokeOperatorRequest(name="bo"))
        else:
            await AdminStub(ana).SetOperatorRole(
                admin_pb2.SetOperatorRoleRequest(name="bo", role="viewer")
            )
        error = await asyncio.wait_for(failure_of(upload), 20)
    assert type(error) is Forbidden
    assert "rights have changed" in error.message


async def test_an_invitation_over_the_enrolment_listener_ends_in_a_certificate_that_works(
    listeners,
):
    async with listeners.operator_channel() as ana:
        made = await AdminStub(ana).InviteOperator(
            admin_pb2.InviteOperatorRequest(name="carl", role="viewer")
        )
    key = p256_key()
    async with listeners.channel(listeners.enrolment_port) as channel:
        answer = await EnrolmentStub(channel).EnrolOperator(
            EnrolOperatorRequest(**enrol_request_parts(made.token, key))
        )
    assert (answer.name, answer.role) == ("carl", "viewer")
    assert (answer.admin_address, answer.admin_on_loopback) == (ADMIN_ADDRESS, False)
    async with as_(listeners, (private_pem(key), answer.certificate_pem)) as channel:
        assert (await list_operators(channel)).caller == "carl"


async def test_guesses_of_invitations_are_limited_as_those_of_hosts_tokens_are(listeners):
    async with listeners.channel(listeners.enrolment_port) as channel:
        stub = EnrolmentStub(channel)
        guess = EnrolOperatorRequest(token_id="t", secret="s", csr_der=b"junk")
        refusals = [type(await failure_of(stub.EnrolOperator(guess))) for _ in range(21)]
    assert refusals == [Unauthenticated] * 20 + [Overloaded]


async def test_a_restored_backup_from_before_a_renewal_admits_the_renewed_certificate(listeners):
    """The row of the backup knows an older certificate of the same key."""
    bo = await listeners.admit("bo", Role.VIEWER)
    row = listeners.store.operators()["bo"]
    older = replace(row, certificate_serial=1, certificate_not_after_unix_ms=1)
    await listeners.store.write(operators.put(older))
    async with as_(listeners, bo) as channel:
        assert (await list_operators(channel)).caller == "bo"
