"""Faults 9 and 10: tokens reused, expired, forged; a lost reply, with the same or another key."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import sqlite3

import pytest
from cryptography import x509

from coordinator import clock as real_clock
from coordinator.rpc.enrolment import EnrolmentLimits
from coordinator.rpc.listeners import SPARE_CONNECTIONS
from coordinator.store import tokens
from coordinator.store.store import Store
from protos.domain.errors import InvalidRequest, Overloaded, StoreUnavailable, Unauthenticated
from protos.v1 import admin_pb2, enrolment_pb2, enrolment_pb2_grpc
from protos.wire import pop_to_wire
from tests.support.certificates import p256_key, request_der
from tests.support.operator_listeners import (
    ENROLMENT_ADDRESS,
    FLEET_ADDRESS,
    enrol_request_parts,
    failure_of,
    listening,
)
from tests.support.stores import DAY_MS, GRU, HOUR_MS, SetClock, audited

REFUSED = "the enrolment token is not valid"


@pytest.fixture
async def enrolment(listeners):
    async with listeners.channel(listeners.enrolment_port) as channel:
        yield enrolment_pb2_grpc.EnrolmentStub(channel)


@pytest.fixture
async def token(admin):
    await admin.CreatePop(admin_pb2.CreatePopRequest(pop=pop_to_wire(GRU)))
    return await new_token(admin)


async def new_token(admin, node_id=""):
    request = admin_pb2.CreateNodeTokenRequest(pop_id="GRU", node_id=node_id)
    return (await admin.CreateNodeToken(request)).token


def request_of(token, key, **changes):
    return enrolment_pb2.EnrolRequest(**(enrol_request_parts(token, key) | changes))


async def noted(listeners, count=1, *, strangers=False):
    return [
        (entry.note.actor, entry.note.action, entry.note.subject, entry.note.detail)
        for entry in await audited(listeners.store, count, strangers=strangers)
    ]


async def assert_refused(listeners, enrolment, request, cause, caplog):
    caplog.clear()
    error = await failure_of(enrolment.Enrol(request))
    assert type(error) is Unauthenticated
    # Every cause has the same error for the caller.
    assert (error.message, error.retryable, error.code) == (REFUSED, False, "enrolment_refused")
    assert "node token create" in error.hint
    ((actor, action, subject, detail),) = await noted(listeners, strangers=True)
    assert (actor, action) == ("anonymous@127.0.0.1", "enrolment.refused")
    assert subject == f"token/{request.token_id!a}"
    assert f"cause={cause}" in detail
    assert f"cause={cause}" in caplog.text
    assert request.secret not in caplog.text + detail + subject


async def test_a_token_as_the_operator_gets_it(listeners, admin, token):
    version, ca_sha256, token_id, secret = token.split(".")
    assert version == "EF1"
    certificate = x509.load_pem_x509_certificate(listeners.authority.certificate_pem)
    assert (
        ca_sha256
        == certificate.fingerprint(certificate.signature_hash_algorithm).hex()
        == listeners.authority.sha256_hex
    )
    assert len(secret) >= 43
    reply = await admin.CreateNodeToken(
        admin_pb2.CreateNodeTokenRequest(pop_id="GRU", node_id="gru-x", ttl_s=60)
    )
    assert reply.node_id == "gru-x"
    assert reply.enrolment_address == ENROLMENT_ADDRESS
    assert reply.expires_unix_ms == listeners.clock() + 60_000
    kept = await listeners.store.read(tokens.by_id(token_id))
    assert kept.secret_sha256 == hashlib.sha256(secret.encode()).digest()


async def test_enrolling(listeners, enrolment, token):
    key = p256_key()
    reply = await enrolment.Enrol(request_of(token, key))
    assert (reply.node_id, reply.pop_id) == ("gru-1", "GRU")
    assert reply.fleet_address == FLEET_ADDRESS
    assert reply.ca_bundle_pem == listeners.authority.bundle_pem
    certificate = x509.load_pem_x509_certificate(reply.certificate_pem)
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.rfc4514_string() == "CN=gru-1"  # not what the request asked for
    record = listeners.store.node_record("gru-1")
    assert [one.serial for one in record.certificates] == [certificate.serial_number]
    ((actor, action, subject, _),) = await noted(listeners)
    assert (actor, action, subject) == (
        "anonymous@127.0.0.1",
        "enrolment.accepted",
        "node/gru-1",
    )


async def test_a_lost_reply_is_sent_again_for_the_same_key(listeners, enrolment, token):
    key = p256_key()
    first = await enrolment.Enrol(request_of(token, key))
    again = await enrolment.Enrol(request_of(token, key))  # a new request, signed anew
    assert again == first
    assert len(listeners.store.node_record("gru-1").certificates) == 1
    assert [action for _, action, _, _ in await noted(listeners, 2)] == [
        "enrolment.repeated",
        "enrolment.accepted",
    ]


async def test_another_key_is_refused(listeners, enrolment, token, caplog):
    await enrolment.Enrol(request_of(token, p256_key()))
    await assert_refused(listeners, enrolment, request_of(token, p256_key()), "reused", caplog)
    assert len(listeners.store.node_record("gru-1").certificates) == 1


@pytest.mark.parametrize("same_key", [True, False])
async def test_a_token_race_has_one_winner(listeners, enrolment, token, same_key):
    one = p256_key()
    keys = [one, one if same_key else p256_key()] * 4
    replies = await asyncio.gather(
        *(enrolment.Enrol(request_of(token, key)) for key in keys), return_exceptions=True
    )
    issued = {
        reply.certificate_pem for reply in replies if isinstance(reply, enrolment_pb2.EnrolResponse)
    }
    assert len(issued) == 1
    refused = [reply for reply in replies if not isinstance(reply, enrolment_pb2.EnrolResponse)]
    assert len(refused) == (0 if same_key else 4)
    assert len(listeners.store.node_record("gru-1").certificates) == 1


async def test_expired_unused_and_used(listeners, admin, enrolment, token, caplog):
    key = p256_key()
    await enrolment.Enrol(request_of(token, key))
    unused = await new_token(admin)
    listeners.clock.unix_ms += HOUR_MS
    for request in (request_of(unused, p256_key()), request_of(token, key)):
        await assert_refused(listeners, enrolment, request, "expired", caplog)


async def test_forged_and_unknown(listeners, enrolment, token, caplog):
    key = p256_key()
    for changes, cause in (
        ({"secret": "A" * 43}, "forged"),
        ({"secret": request_of(token, key).secret + "A"}, "forged"),
        ({"token_id": "0123456789abcdef"}, "unknown"),
        ({"token_id": "x" * 5_000}, "unknown"),
    ):
        request = request_of(token, key, **changes)
        if len(request.token_id) > 64:
            assert (await failure_of(enrolment.Enrol(request))).message == REFUSED
        else:
            await assert_refused(listeners, enrolment, request, cause, caplog)
    assert listeners.store.node_records() == {}
    # None of that has used it up.
    await enrolment.Enrol(request_of(token, key))


async def test_an_empty_secret_is_refused(listeners, enrolment, token, caplog):
    request = request_of(token, p256_key(), secret="")
    error = await failure_of(enrolment.Enrol(request))
    assert error.message == REFUSED


async def test_a_removed_node_is_refused(listeners, admin, enrolment, token, caplog):
    key = p256_key()
    await enrolment.Enrol(request_of(token, key))
    await admin.RemoveNode(admin_pb2.RemoveNodeRequest(node_id="gru-1"))
    await assert_refused(listeners, enrolment, request_of(token, key), "removed", caplog)


@pytest.mark.parametrize("csr", [b"", b"junk", bytes(5_000)])
async def test_an_invalid_certificate_request_does_not_use_the_token(
    listeners, enrolment, token, csr
):
    key = p256_key()
    error = await failure_of(enrolment.Enrol(request_of(token, key, csr_der=csr)))
    assert type(error) is InvalidRequest
    ((_, action, _, _),) = await noted(listeners, strangers=True)
    assert action == "enrolment.refused"
    await enrolment.Enrol(request_of(token, key))


@contextlib.asynccontextmanager
async def limited(folder, limits):
    today = SetClock(real_clock.now_unix_ms())
    store = await Store.open(folder / "coordinator.db", now_unix_ms=today)
    async with (
        listening(folder, store, today, limits) as listeners,
        listeners.channel(listeners.enrolment_port) as channel,
    ):
        stub = enrolment_pb2_grpc.EnrolmentStub(channel)
        request = enrolment_pb2.EnrolRequest(token_id="x", csr_der=request_der())

        async def outcomes(calls):
            return [await failure_of(stub.Enrol(request)) for _ in range(calls)]

        yield listeners, outcomes
    await store.close()


async def test_calls_over_the_rate_are_refused_and_audited_once(tmp_path):
    limits = EnrolmentLimits(peer_per_s=1.0, peer_burst=2, overall_per_s=1.0, overall_burst=100)
    async with limited(tmp_path, limits) as (listeners, outcomes):
        errors = await outcomes(7)
        assert [type(error) for error in errors] == [Unauthenticated] * 2 + [Overloaded] * 5
        assert errors[-1].retryable
        assert errors[-1].retry_after_s == pytest.approx(1.0)
        told = [action for _, action, _, _ in await noted(listeners, 50, strangers=True)]
        assert told.count("enrolment.limited") == 1
        # Later calls are admitted, and the next entry counts the refused ones.
        listeners.mono_ms.unix_ms += 61_000
        errors = await outcomes(3)
        assert [type(error) for error in errors] == [Unauthenticated] * 2 + [Overloaded]
        ((_, action, _, detail),) = await noted(listeners, strangers=True)
        assert (action, detail) == ("enrolment.limited", "refused_calls=5")


async def test_all_peers_together_have_a_limit_too(tmp_path):
    limits = EnrolmentLimits(peer_per_s=1.0, peer_burst=100, overall_per_s=1.0, overall_burst=3)
    async with limited(tmp_path, limits) as (_, outcomes):
        errors = await outcomes(5)
        assert [type(error) for error in errors] == [Unauthenticated] * 3 + [Overloaded] * 2


async def test_a_locked_database_is_retryable_and_does_not_use_the_token(
    listeners, enrolment, token, database
):
    key = p256_key()
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        error = await failure_of(enrolment.Enrol(request_of(token, key)))
        assert type(error) is StoreUnavailable
        assert error.retryable
        other.execute("ROLLBACK")
    reply = await enrolment.Enrol(request_of(token, key))
    assert reply.node_id == "gru-1"


async def test_a_certificate_is_valid_for_thirty_days(listeners, enrolment, token):
    reply = await enrolment.Enrol(request_of(token, p256_key()))
    certificate = x509.load_pem_x509_certificate(reply.certificate_pem)
    left_ms = certificate.not_valid_after_utc.timestamp() * 1_000 - listeners.clock()
    assert left_ms == pytest.approx(30 * DAY_MS, abs=1_000)


def _opened(port: int, count: int) -> list[socket.socket]:
    """Connect and send nothing; return the connections that the server has not closed."""
    opened = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(count)]
    kept = []
    for one in opened:
        one.settimeout(0.02)
        try:
            closed = one.recv(1) == b""
        except TimeoutError:
            closed = False
        except OSError:
            closed = True
        if closed:
            one.close()
        else:
            kept.append(one)
    return kept


async def test_idle_connections_of_strangers_are_limited_and_leave_the_other_listener_its_own(
    listeners, admin
):
    kept = await asyncio.to_thread(_opened, listeners.enrolment_port, 2 * SPARE_CONNECTIONS + 100)
    try:
        assert len(kept) <= SPARE_CONNECTIONS + 100
        await admin.ListNodes(admin_pb2.ListNodesRequest())
    finally:
        for one in kept:
            one.close()
