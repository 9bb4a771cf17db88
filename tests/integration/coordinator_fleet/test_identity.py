"""Who may call the fleet listener, and the audit of refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from grpc import aio

from agent.link.errors import rpc_error
from coordinator.ca.authority import CertificateAuthority
from coordinator.clock import now_unix_ms
from protos.domain.errors import NODE_REMOVED
from protos.domain.resources import ResourceType
from protos.v1 import admin_pb2, fleet_pb2
from protos.v1.fleet_pb2_grpc import FleetStub
from tests.support.certificates import p256_key, private_pem, request_der
from tests.support.scripted_agent import NodeIdentity, ScriptedAgent
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until_async

if TYPE_CHECKING:
    from pathlib import Path

    from protos.domain.errors import EdgeForgeError
    from tests.support.coordinator_process import CoordinatorProcess, Operator

TIMEOUT_S = 30.0


async def refused(agent: ScriptedAgent) -> aio.AioRpcError:
    """Return the error that ended the agent's stream."""
    await wait_until_async(agent.ended.is_set, TIMEOUT_S, "the stream's end")
    assert agent.error is not None
    assert agent.pushes == 0
    return agent.error


def told(error: aio.AioRpcError) -> EdgeForgeError:
    """Return the error as an agent reads it."""
    return rpc_error(error)


async def audited(operator: Operator, actor: str, action: str, subject: str) -> None:
    async def there() -> bool:
        return (actor, action, subject) in await operator.audit()

    await wait_until_async(there, TIMEOUT_S, f"{actor} {action} {subject} in the audit")


async def test_a_node_that_reports_for_another_is_refused(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    mine, others = await operator.enrol("gru-1"), await operator.enrol("gru-2")
    agent = ScriptedAgent(coordinator, mine)
    hello = agent.hello()
    hello.node_id = others.node_id
    await agent.connect(hello)
    error = await refused(agent)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "gru-2" in (error.details() or "")
    await audited(operator, "node/gru-1", "fleet.refused", "node/gru-2")
    assert "reports for another" in coordinator.log_text()
    await agent.disconnect()
    info = await operator.node("gru-2")
    assert info is not None
    assert not info.connected
    assert info.node.peer_host == ""


async def test_a_certificate_of_another_authority_is_refused(
    coordinator: CoordinatorProcess, operator: Operator, tmp_path: Path
) -> None:
    mine = await operator.enrol("gru-1")
    other = CertificateAuthority.create(tmp_path / "other", now_unix_ms=now_unix_ms)
    key = p256_key()
    forged = other.issue_node("gru-1", request_der(key)).pem
    agent = ScriptedAgent(coordinator, NodeIdentity("gru-1", private_pem(key), forged, mine.ca_pem))
    await agent.connect()
    error = await refused(agent)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    await audited(operator, "anonymous@unknown", "tls.refused", "fleet or admin listener")
    assert "CERTIFICATE_VERIFY_FAILED" in coordinator.log_text()
    await agent.disconnect()


async def test_a_node_that_was_never_enrolled_is_refused(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    ours = CertificateAuthority.load(coordinator.state_dir / "ca", now_unix_ms=now_unix_ms)
    key = p256_key()
    certificate = ours.issue_node("gru-9", request_der(key)).pem
    agent = ScriptedAgent(
        coordinator, NodeIdentity("gru-9", private_pem(key), certificate, ours.bundle_pem)
    )
    await agent.connect()
    error = await refused(agent)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert told(error).code is None, "this database may be the wrong one: it serves on"
    await audited(operator, "node/gru-9", "rpc.refused", "/edgeforge.v1.Fleet/Connect")
    await agent.disconnect()


async def test_an_operators_certificate_is_refused(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    folder = coordinator.operator_dir
    identity = NodeIdentity(
        "admin",
        (folder / "key.pem").read_bytes(),
        (folder / "cert.pem").read_bytes(),
        operator.ca_pem,
    )
    agent = ScriptedAgent(coordinator, identity)
    await agent.connect()
    error = await refused(agent)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    await audited(operator, "operator/admin", "rpc.refused", "/edgeforge.v1.Fleet/Connect")
    await agent.disconnect()


async def test_removal_ends_the_stream_and_revokes_the_certificate(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    agent = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    await agent.connect()
    await wait_until_async(
        lambda: "node/gru-1" in agent.rows(ResourceType.TOPOLOGY), TIMEOUT_S, "its row"
    )
    await operator.admin.RemoveNode(admin_pb2.RemoveNodeRequest(node_id="gru-1"))
    await wait_until_async(agent.ended.is_set, TIMEOUT_S, "the stream's end")
    assert agent.error is not None
    assert agent.error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert agent.received.go_away is not None
    await agent.disconnect()
    await agent.connect()
    error = await refused(agent)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert told(error).code == NODE_REMOVED, "it is told for good, and serves nobody"
    await agent.disconnect()


async def test_two_hosts_made_from_one_image_raise_an_alarm_with_both_addresses(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    identity = await operator.enrol("gru-1")
    with TcpProxy(coordinator.ports["fleet"], source_host="127.0.0.2") as proxy:
        async with ScriptedAgent(coordinator, identity) as first:
            await wait_until_async(lambda: first.pushes, TIMEOUT_S, "tables")
            second = ScriptedAgent(coordinator, identity, f"127.0.0.1:{proxy.port}")
            for _ in range(3):
                await second.connect()
                error = told(await refused(second))
                assert error.code == "identity_in_use"
                assert "from 127.0.0.1" in error.message
                await second.disconnect()
            assert not first.ended.is_set(), "the first one stays"
            info = await operator.node("gru-1")
            assert info is not None
            assert info.twin == "127.0.0.1 and 127.0.0.2"
    await audited(operator, "coordinator", "alarm.twin", "node/gru-1")
    assert coordinator.log_text().count("alarm kind=twin") == 1
    assert "127.0.0.1 and 127.0.0.2" in coordinator.log_text()


async def test_a_renewed_certificate_names_the_same_node(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    agent = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    key = p256_key()
    # The names in the request are ignored.
    request = fleet_pb2.RenewRequest(csr_der=request_der(key, "gru-2", ("edgeforge://node/gru-2",)))
    async with agent.channel() as channel:
        answer = await FleetStub(channel).Renew(request)
    await audited(operator, "node/gru-1", "certificate.renew", "node/gru-1")
    renewed = NodeIdentity("gru-1", private_pem(key), answer.certificate_pem, answer.ca_bundle_pem)
    async with ScriptedAgent(coordinator, renewed) as again:
        await wait_until_async(lambda: again.pushes, TIMEOUT_S, "tables")
    async with agent.channel() as channel:
        stub = FleetStub(channel)
        with pytest.raises(aio.AioRpcError) as malformed:
            await stub.Renew(fleet_pb2.RenewRequest(csr_der=b"not a request"))
        assert malformed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        # Three at once are allowed, and two have been made.
        await stub.Renew(request)
        with pytest.raises(aio.AioRpcError) as too_often:
            await stub.Renew(request)
        assert too_often.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_newest_stream_of_a_node_wins(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    identity = await operator.enrol("gru-1")
    async with ScriptedAgent(coordinator, identity) as old:
        await wait_until_async(lambda: old.pushes, TIMEOUT_S, "tables")
        async with ScriptedAgent(coordinator, identity) as new:
            await wait_until_async(old.ended.is_set, TIMEOUT_S, "the old stream's end")
            assert old.received.go_away is not None
            assert old.received.go_away.retry_after_ms > 0
            beats = new.received.beats
            await wait_until_async(
                lambda: new.received.beats > beats, TIMEOUT_S, "the new stream's beat"
            )
            info = await operator.node("gru-1")
            assert info is not None
            assert info.connected


MISTAKES = [
    ("schema", 0, "upgrade the agent"),
    ("peer_port", 70_000, "peer_port"),
    ("peer_host", "", "peer_host"),
    ("client_url", "ftp://x", "client_url"),
    ("engine_kind", "quantum", "engine_kind"),
    ("boot_id", "", "boot_id"),
]


async def test_an_invalid_hello_is_refused(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    agent = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    for field, value, told in MISTAKES:
        hello = agent.hello()
        setattr(hello, field, value)
        await agent.connect(hello)
        error = await refused(agent)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        hints = dict(error.trailing_metadata() or ())
        assert told in f"{error.details()} {hints.get('edgeforge-hint-bin', b'')!r}"
        await agent.disconnect()
