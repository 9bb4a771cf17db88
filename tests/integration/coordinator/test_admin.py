"""Administration: calls that work, calls that are refused, and the messages."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import replace

import grpc
import pytest

from coordinator.core.push_session import Holding
from coordinator.fleet.live import LiveNode, NodeReport, ReportedReplica
from coordinator.operations import keys
from coordinator.store import accounts, audit, models, nodes, pops, prices, replicas
from coordinator.store.records import AuditNote
from protos.domain.customers import Account, UsageLimits
from protos.domain.errors import (
    Conflict,
    EngineFailed,
    InvalidRequest,
    LinkDown,
    NotFound,
    StoreUnavailable,
)
from protos.domain.resources import ModelSource, Price, ReplicaState, ResourceType, Tier
from protos.domain.routing_table import TableVersion, digest_to_bytes
from protos.v1 import admin_pb2, fleet_pb2, resources_pb2
from protos.wire import pop_to_wire
from tests.support.operator_listeners import failure_of
from tests.support.stores import (
    FILES,
    GRU,
    IAD,
    MODEL,
    audited,
    enrol,
    registration,
    replica,
)
from tests.support.waiting import wait_until_async


@pytest.fixture
async def fleet(listeners):
    """GRU without an engine, IAD with vLLM and one that attaches an external engine."""
    store = listeners.store
    await store.write(pops.put(GRU))
    await store.write(pops.put(IAD))
    for node_id, pop_id, kind in (
        ("gru-1", "GRU", "none"),
        ("iad-1", "IAD", "vllm"),
        ("iad-2", "IAD", "external"),
    ):
        await enrol(store, node_id, pop_id)
        await store.write(nodes.register(registration(node_id, kind)))
    await enrol(store, "iad-3", "IAD")  # has never connected
    await store.write(accounts.create(Account("acme")))
    await store.write(models.register(MODEL, FILES))
    await store.write(
        models.register(
            replace(MODEL, name="acme/ext@1", source=ModelSource.EXTERNAL, manifest_sha256=b""), ()
        )
    )
    return listeners


def pop_request(**changes):
    message = pop_to_wire(GRU)
    for name, value in changes.items():
        setattr(message, name, value)
    return admin_pb2.CreatePopRequest(pop=message)


def deploy(name="chat", model=MODEL.name, nodes=("iad-1",), create_only=False, **fields):
    return admin_pb2.ApplyDeploymentRequest(
        deployment=resources_pb2.Deployment(
            **({"account_id": "acme", "ttft_budget_ms": 80} | fields), name=name, model=model
        ),
        node_ids=nodes,
        create_only=create_only,
    )


async def newest(listeners):
    (entry,) = await audited(listeners.store, 1)
    return entry.note.actor, entry.note.action, entry.note.subject


async def test_pops(listeners, admin):
    assert await admin.CreatePop(pop_request()) == pop_to_wire(GRU)
    assert await newest(listeners) == ("operator/ana", "pop.create", "pop/GRU")
    await admin.CreatePop(pop_request(city="Guarulhos"))  # corrected before any node is enrolled
    (pop,) = (await admin.ListPops(admin_pb2.ListPopsRequest())).pops
    assert pop.city == "Guarulhos"


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "gru"},
        {"id": ""},
        {"zone": "Brazil"},
        {"tier": 0},
        {"tier": 99},
        {"latitude_deg": 91.0},
        {"longitude_deg": float("nan")},
        {"city": ""},
        {"city": "x\ny"},
        {"city": "x" * 200},
    ],
)
async def test_invalid_pops_are_refused(listeners, admin, changes):
    assert type(await failure_of(admin.CreatePop(pop_request(**changes)))) is InvalidRequest
    assert not listeners.store.view().pops


async def test_a_pop_with_nodes_does_not_change_its_zone(fleet, admin):
    error = await failure_of(admin.CreatePop(pop_request(zone="US")))
    assert type(error) is Conflict
    assert "gru-1" in error.message
    await admin.CreatePop(pop_request())  # the same again is no change


async def test_invalid_token_requests_are_refused(fleet, admin):
    for fields, kind, says in (
        ({"pop_id": "XXX"}, NotFound, "no POP 'XXX'"),
        ({"pop_id": "gru"}, InvalidRequest, "POP name"),
        ({"pop_id": "GRU", "node_id": "Bad Name"}, InvalidRequest, "node name"),
        ({"pop_id": "GRU", "node_id": "gru-1"}, Conflict, "is enrolled"),
        ({"pop_id": "GRU", "ttl_s": 100_000}, InvalidRequest, "at most"),
    ):
        request = admin_pb2.CreateNodeTokenRequest(**fields)
        error = await failure_of(admin.CreateNodeToken(request))
        assert type(error) is kind
        assert says in error.message


async def test_nodes_are_listed_with_their_last_report(fleet, admin):
    have = fleet_pb2.Have(
        type=resources_pb2.RESOURCE_TYPE_PRICES, epoch=1, version=3, digest=digest_to_bytes(5)
    )
    fleet.live.nodes["iad-1"] = LiveNode(
        connected=True,
        last_status_age_s=1.5,
        report=NodeReport(
            in_flight_requests=7,
            credentials_age_s=2.0,
            certificate_age_s=3.0,
            replicas=(ReportedReplica(MODEL.name, ReplicaState.READY, 1),),
            have={ResourceType.PRICES: Holding(TableVersion(1, 3), 5)},
        ),
    )
    nodes = (await admin.ListNodes(admin_pb2.ListNodesRequest())).nodes
    by_id = {info.node.id: info for info in nodes}
    assert list(by_id) == ["gru-1", "iad-1", "iad-2", "iad-3"]
    live, quiet, new = by_id["iad-1"], by_id["gru-1"], by_id["iad-3"]
    assert (live.connected, live.last_status_age_s, live.in_flight_requests) == (True, 1.5, 7)
    assert list(live.have) == [have]
    assert live.replicas[0].model == MODEL.name
    assert (live.engine_kind, live.agent_version) == ("vllm", "0.1.0")
    current = {one.type: one.version for one in live.current}
    table = fleet.store.table(ResourceType.TOPOLOGY)
    assert current[resources_pb2.RESOURCE_TYPE_TOPOLOGY] == table.at.version
    assert len(current) == 5
    assert (quiet.connected, quiet.last_status_age_s) == (False, -1.0)
    assert quiet.node.health == resources_pb2.NODE_HEALTH_READY
    assert new.node.pop_id == "IAD"
    assert new.node.health == resources_pb2.NODE_HEALTH_UNSPECIFIED


async def test_removing_a_node(fleet, admin):
    await admin.RemoveNode(admin_pb2.RemoveNodeRequest(node_id="iad-1"))
    assert await newest(fleet) == ("operator/ana", "node.remove", "node/iad-1")
    assert "iad-1" not in fleet.store.view().nodes
    again = await failure_of(admin.RemoveNode(admin_pb2.RemoveNodeRequest(node_id="iad-1")))
    assert type(again) is NotFound


async def test_removing_the_last_node_that_a_deployment_is_pinned_to_needs_force(fleet, admin):
    await admin.ApplyDeployment(deploy())
    assert list(fleet.store.placements().values()) == [("iad-1",)]
    request = admin_pb2.RemoveNodeRequest(node_id="iad-1")
    refused = await failure_of(admin.RemoveNode(request))
    assert type(refused) is Conflict
    assert "that chat is pinned to" in refused.message
    assert "node replace iad-1" in refused.hint
    assert "iad-1" in fleet.store.view().nodes
    request.force = True
    await admin.RemoveNode(request)
    assert "iad-1" not in fleet.store.view().nodes


async def test_a_replaced_node_leaves_its_pins_to_the_new_one_in_one_act(fleet, admin):
    await admin.ApplyDeployment(deploy())
    request = admin_pb2.ReplaceNodeRequest(old_node_id="iad-1", new_node_id="iad-2")
    answer = await admin.ReplaceNode(request)
    assert list(answer.deployments) == ["chat"]
    assert list(fleet.store.placements().values()) == [("iad-2",)]
    assert "iad-1" not in fleet.store.view().nodes
    assert await newest(fleet) == ("operator/ana", "node.replace", "node/iad-1")
    for old, new in (("iad-1", "iad-2"), ("iad-2", "nobody"), ("iad-2", "iad-2")):
        request = admin_pb2.ReplaceNodeRequest(old_node_id=old, new_node_id=new)
        assert type(await failure_of(admin.ReplaceNode(request))) in (NotFound, InvalidRequest)
    assert list(fleet.store.placements().values()) == [("iad-2",)]


async def test_deploying(fleet, admin):
    await fleet.store.write(replicas.report([replica("iad-1")], []))
    info = await admin.ApplyDeployment(deploy(residency_zones=["US", "BR", "US"]))
    assert list(info.node_ids) == ["iad-1"]
    assert [one.node_id for one in info.replicas] == ["iad-1"]
    assert list(info.deployment.residency_zones) == ["BR", "US"]
    assert info.deployment.sla_tier == resources_pb2.SLA_TIER_STANDARD
    assert await newest(fleet) == ("operator/ana", "deployment.apply", "deployment/chat")
    listed = await admin.ListDeployments(admin_pb2.ListDeploymentsRequest())
    assert list(listed.deployments) == [info]
    error = await failure_of(admin.ApplyDeployment(deploy(create_only=True)))
    assert type(error) is Conflict
    await admin.ApplyDeployment(deploy(nodes=()))
    assert fleet.store.placements() == {"chat": ()}
    await admin.RemoveDeployment(admin_pb2.RemoveDeploymentRequest(name="chat"))
    assert await newest(fleet) == ("operator/ana", "deployment.remove", "deployment/chat")
    missing = admin.RemoveDeployment(admin_pb2.RemoveDeploymentRequest(name="chat"))
    assert type(await failure_of(missing)) is NotFound


@pytest.mark.parametrize(
    ("request_", "kind", "says"),
    [
        (deploy(nodes=("gru-1",)), InvalidRequest, ("has no engine", "engine: iad-1")),
        (deploy(nodes=("iad-3",)), InvalidRequest, ("has not connected yet", "iad-1")),
        (deploy(nodes=("iad-2",)), InvalidRequest, ("kind 'external'", "needs 'vllm'")),
        (deploy(model="acme/ext@1"), InvalidRequest, ("needs 'external'", "iad-2")),
        (deploy(nodes=("iad-9",)), NotFound, ("no node 'iad-9'", "iad-1")),
        (deploy(model="acme/none@1"), NotFound, ("no model", MODEL.name)),
        (deploy(account_id="nobody"), NotFound, ("no account 'nobody'", "account create")),
        (deploy(residency_zones=["BR"]), InvalidRequest, ("zone US", "residency_zones")),
        (deploy(residency_zones=["br"]), InvalidRequest, ("residency zone",)),
        (deploy(residency_zones=["BR"] * 51), InvalidRequest, ("51 zones",)),
        (deploy(adapter="acme/a@1"), NotFound, ("no adapter",)),
        (deploy(ttft_budget_ms=0), InvalidRequest, ("budget of 0 ms",)),
        (deploy(ttft_budget_ms=700_000), InvalidRequest, ("600000",)),
        (deploy(sla_tier=77), InvalidRequest, ("sla_tier",)),
        (deploy(name="spaces here"), InvalidRequest, ("deployment name",)),
        (deploy(nodes=("NOT A NODE",)), InvalidRequest, ("node name",)),
        (deploy(nodes=[f"n-{number}" for number in range(1_001)]), InvalidRequest, ("1001",)),
    ],
)
async def test_invalid_deployments_are_refused(fleet, admin, request_, kind, says):
    error = await failure_of(admin.ApplyDeployment(request_))
    assert type(error) is kind
    for words in says:
        assert words in str(error)
    assert not fleet.store.view().deployments


async def test_accounts(fleet, admin):
    await admin.CreateAccount(admin_pb2.CreateAccountRequest(id="globex"))
    assert await newest(fleet) == ("operator/ana", "account.create", "account/globex")
    ids = (await admin.ListAccounts(admin_pb2.ListAccountsRequest())).ids
    assert list(ids) == ["acme", "globex"]
    for name, kind in (("globex", Conflict), ("No Good", InvalidRequest), ("", InvalidRequest)):
        request = admin_pb2.CreateAccountRequest(id=name)
        assert type(await failure_of(admin.CreateAccount(request))) is kind


async def test_limits_of_an_account_are_rows_that_agents_get(fleet, admin):
    def limits(**given):
        return admin.SetAccountLimits(admin_pb2.SetAccountLimitsRequest(id="acme", **given))

    await limits(max_concurrent_sequences=8, requests_per_minute=600)
    detail = "max_concurrent_sequences=8 requests_per_minute=600"
    assert await newest(fleet) == ("operator/ana", "account.limits", "account/acme")
    assert (await audited(fleet.store, 1))[0].note.detail == detail
    info = (await limits(requests_per_minute=0, tokens_per_minute=9)).account
    assert fleet.store.view().accounts["acme"].limits == UsageLimits(8, 0, 9)
    assert (info.limits.max_concurrent_sequences, info.limits.tokens_per_minute) == (8, 9)
    (listed,) = (await admin.ListAccounts(admin_pb2.ListAccountsRequest())).accounts
    assert listed == info
    request = admin_pb2.SetAccountLimitsRequest(id="nosuch", requests_per_minute=1)
    assert type(await failure_of(admin.SetAccountLimits(request))) is NotFound


async def test_limits_of_a_key_are_in_its_row(fleet, admin):
    limits = resources_pb2.UsageLimits(requests_per_minute=60)
    await admin.CreateKey(admin_pb2.CreateKeyRequest(account_id="acme", limits=limits))
    (info,) = (await admin.ListKeys(admin_pb2.ListKeysRequest(account_id="acme"))).keys
    assert info.limits == limits
    (key,) = fleet.store.view().keys.values()
    assert key.limits == UsageLimits(requests_per_minute=60)


async def test_keys(fleet, admin):
    await admin.ApplyDeployment(deploy())
    reply = await admin.CreateKey(
        admin_pb2.CreateKeyRequest(account_id="acme", deployments=["chat"])
    )
    assert reply.api_key.startswith(f"ef-{reply.id}-")
    assert await newest(fleet) == ("operator/ana", "key.create", f"key/{reply.id}")
    digest = hashlib.sha256(reply.api_key.encode()).digest()
    assert fleet.store.view().keys[digest].deployments == ("chat",)
    (info,) = (await admin.ListKeys(admin_pb2.ListKeysRequest(account_id="acme"))).keys
    assert (info.id, info.created_unix_ms) == (reply.id, fleet.clock())
    with pytest.raises(grpc.aio.AioRpcError, match="there is no account 'other'"):
        await admin.ListKeys(admin_pb2.ListKeysRequest(account_id="other"))
    await admin.RevokeKey(admin_pb2.RevokeKeyRequest(id=reply.id))
    assert await newest(fleet) == ("operator/ana", "key.revoke", f"key/{reply.id}")
    assert not fleet.store.view().keys
    assert f"key/{reply.id}" not in fleet.store.table(ResourceType.CREDENTIALS).rows
    assert not (await admin.ListKeys(admin_pb2.ListKeysRequest())).keys


async def test_invalid_keys_are_refused(fleet, admin, monkeypatch):
    await admin.ApplyDeployment(deploy())
    await admin.CreateAccount(admin_pb2.CreateAccountRequest(id="globex"))
    for fields, kind, says in (
        ({"account_id": "nobody"}, NotFound, "no account 'nobody'"),
        ({"account_id": "acme", "deployments": ["none"]}, NotFound, "no deployment 'none'"),
        ({"account_id": "globex", "deployments": ["chat"]}, NotFound, "no deployment 'chat'"),
        ({"account_id": "acme", "expires_unix_ms": 1}, InvalidRequest, "expired already"),
        (
            {"account_id": "acme", "deployments": [f"d{n}" for n in range(101)]},
            InvalidRequest,
            "101",
        ),
    ):
        error = await failure_of(admin.CreateKey(admin_pb2.CreateKeyRequest(**fields)))
        assert type(error) is kind
        assert says in error.message
    monkeypatch.setattr(keys, "MAX_KEYS_PER_ACCOUNT", 1)
    await admin.CreateKey(admin_pb2.CreateKeyRequest(account_id="acme"))
    error = await failure_of(admin.CreateKey(admin_pb2.CreateKeyRequest(account_id="acme")))
    assert "has 1 keys" in error.message
    for key_id, kind in (("nope", NotFound), ("", InvalidRequest), ("x" * 65, InvalidRequest)):
        request = admin_pb2.RevokeKeyRequest(id=key_id)
        assert type(await failure_of(admin.RevokeKey(request))) is kind


async def test_prices(fleet, admin):
    await fleet.store.write(
        prices.put([Price("xs", Tier.EDGE, 12, 3, 36, 1), Price("xs", Tier.CENTRAL, 10, 2, 30, 1)])
    )
    listed = (await admin.ListPrices(admin_pb2.ListPricesRequest())).prices
    rates = {(one.size_class, one.tier): one.prompt_nano_usd_per_token for one in listed}
    assert len(rates) == 15
    assert rates["xs", resources_pb2.TIER_EDGE] == 12
    assert rates["xs", resources_pb2.TIER_CENTRAL] == 10


async def test_the_audit(fleet, admin):
    for name in ("a-1", "a-2", "a-3"):
        await admin.CreateAccount(admin_pb2.CreateAccountRequest(id=name))
    entries = (await admin.ListAudit(admin_pb2.ListAuditRequest(limit=2))).entries
    assert [entry.subject for entry in entries] == ["account/a-3", "account/a-2"]
    assert entries[0].seq > entries[1].seq
    assert entries[0].actor == "operator/ana"
    assert len((await admin.ListAudit(admin_pb2.ListAuditRequest())).entries) > 3


async def test_the_audit_is_paged_filtered_and_says_that_there_is_more(fleet, admin):
    for name in ("a-1", "a-2", "a-3"):
        await admin.CreateAccount(admin_pb2.CreateAccountRequest(id=name))
    await fleet.store.write(
        audit.append(AuditNote("anonymous@10.0.0.9", "enrolment.refused", "token/x", ""))
    )
    request = admin_pb2.ListAuditRequest(limit=2, actor="operator/ana", action="account.")
    first = await admin.ListAudit(request)
    assert [one.subject for one in first.entries] == ["account/a-3", "account/a-2"]
    assert first.more
    request.before_seq = first.entries[-1].seq
    last = await admin.ListAudit(request)
    assert [one.subject for one in last.entries] == ["account/a-1"]
    assert not last.more
    later = admin_pb2.ListAuditRequest(since_unix_ms=fleet.clock() + 1)
    assert not (await admin.ListAudit(later)).entries
    (refused,) = (await admin.ListAudit(admin_pb2.ListAuditRequest(strangers=True))).entries
    assert refused.action == "enrolment.refused"
    for seq in (1, (1 << 64) - 1):
        await admin.ListAudit(admin_pb2.ListAuditRequest(before_seq=seq))


def explain(**fields):
    return admin_pb2.ExplainRouteRequest(**({"deployment": "chat", "via": "GRU"} | fields))


async def test_an_explanation_comes_from_the_agent_that_a_client_would_reach(fleet, admin):
    await admin.ApplyDeployment(deploy())
    fleet.live.nodes["gru-1"] = LiveNode(connected=True, last_status_age_s=0.1)
    explanation = fleet_pb2.RouteExplanation(deployment="chat", via_node="gru-1", summary="iad-1")
    fleet.live.answers["gru-1"] = fleet_pb2.Answer(explanation=explanation)
    for via in ("GRU", "gru-1"):
        request = explain(via=via, budget_ms=50.0, prompt_tokens=9)
        assert await admin.ExplainRoute(request) == explanation
    ((node_id, query), _) = fleet.live.asked
    assert node_id == "gru-1"
    asked = (query.explain.deployment, query.explain.budget_ms, query.explain.prompt_tokens)
    assert asked == ("chat", 50.0, 9)
    assert query.timeout_ms > 0


async def test_invalid_explanations_are_refused(fleet, admin):
    await admin.ApplyDeployment(deploy())
    fleet.live.nodes["gru-1"] = LiveNode(connected=True, last_status_age_s=0.1)
    fleet.live.nodes["iad-1"] = LiveNode(connected=False, last_status_age_s=99.0)
    fleet.live.answers["gru-1"] = fleet_pb2.Answer(error="unknown deployment")
    for request, kind, says in (
        (explain(deployment="none"), NotFound, "deployments: chat"),
        (explain(via="XXX"), NotFound, "GRU, IAD"),
        (explain(via=""), NotFound, "neither a POP nor a node"),
        (explain(via="IAD"), LinkDown, "no agent of IAD is connected"),
        (explain(via="iad-1"), LinkDown, "no agent of iad-1"),
        (explain(budget_ms=-1.0), InvalidRequest, "budget"),
        (explain(budget_ms=float("inf")), InvalidRequest, "budget"),
        (explain(), EngineFailed, "unknown deployment"),
    ):
        error = await failure_of(admin.ExplainRoute(request))
        assert type(error) is kind
        assert says in str(error)


async def test_forcing_a_table(fleet, admin):
    fleet.live.nodes["gru-1"] = LiveNode(connected=True, last_status_age_s=0.1)
    request = admin_pb2.ForceTableRequest(type=resources_pb2.RESOURCE_TYPE_TOPOLOGY)
    assert (await admin.ForceTable(request)).agents == 1
    assert fleet.live.forced == [ResourceType.TOPOLOGY]
    assert await newest(fleet) == ("operator/ana", "table.force", "table/topology")
    bad = admin.ForceTable(admin_pb2.ForceTableRequest())
    assert type(await failure_of(bad)) is InvalidRequest


async def test_a_locked_database_is_reported_and_works_again_afterwards(fleet, admin, database):
    """Fault 11, seen by an operator."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        request = admin_pb2.CreateAccountRequest(id="globex")
        error = await failure_of(admin.CreateAccount(request))
        assert type(error) is StoreUnavailable
        assert error.retryable
        assert "locked" in error.message
        assert len((await admin.ListPops(admin_pb2.ListPopsRequest())).pops) == 2
        other.execute("ROLLBACK")
    await wait_until_async(lambda: fleet.store.available, 30, "the store available again")
    await admin.CreateAccount(request)


async def test_no_secret_is_in_any_file_of_the_coordinator(fleet, admin, tmp_path):
    await admin.ApplyDeployment(deploy())
    token = await admin.CreateNodeToken(admin_pb2.CreateNodeTokenRequest(pop_id="GRU"))
    key = await admin.CreateKey(admin_pb2.CreateKeyRequest(account_id="acme"))
    revoked = await admin.CreateKey(admin_pb2.CreateKeyRequest(account_id="acme"))
    await admin.RevokeKey(admin_pb2.RevokeKeyRequest(id=revoked.id))
    await fleet.store.backup(tmp_path / "backup.db")
    secrets = [
        token.token.split(".")[3],
        key.api_key,
        key.api_key.split("-")[2],
        revoked.api_key.split("-")[2],
    ]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"coordinator.db", "coordinator.db-wal", "backup.db"} <= {one.name for one in files}
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], path.name
    # The scan works: it finds what is not secret.
    database = b"".join(path.read_bytes() for path in files if "coordinator.db" in path.name)
    assert key.id.encode() in database
    assert hashlib.sha256(key.api_key.encode()).digest() in database


async def test_no_secret_is_logged(fleet, admin, caplog):
    caplog.set_level("DEBUG")
    token = await admin.CreateNodeToken(admin_pb2.CreateNodeTokenRequest(pop_id="GRU"))
    key = await admin.CreateKey(admin_pb2.CreateKeyRequest(account_id="acme"))
    for secret in (token.token.split(".")[3], key.api_key.split("-")[2]):
        assert secret not in caplog.text
        for entry in await audited(fleet.store, 100):
            assert secret not in repr(entry)
