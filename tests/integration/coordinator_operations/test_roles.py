"""Each role against each use case: what is admitted works, what is refused is audited."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from coordinator.billing import invoices
from coordinator.core.invoice_rules import Party
from coordinator.core.operators import Role
from coordinator.core.price_card import first_card
from coordinator.operations.actor import Actor
from coordinator.operations.acts import NEEDS, Act
from coordinator.operations.agents import TraceFilter
from coordinator.operations.models import NewModel
from coordinator.operations.operations import Operations
from coordinator.operations.registry_objects import NewObject
from coordinator.operations.upstream_imports import NewImport
from coordinator.store.records import AuditQuery
from coordinator.usage.exports import LineFilter
from coordinator.usage.reports import UsageQuery
from protos.domain.errors import Forbidden
from protos.domain.object_names import ObjectKind
from protos.domain.resources import ModelSource, ResourceType, Runtime
from tests.support.billing import CENT, count, rules, usage
from tests.support.certificates import request_der
from tests.support.members import INVITATION_ID, put_members
from tests.support.operations import ANA_KEY, NODE, TRACK, actor
from tests.support.registry_cases import adapter_files, base_files
from tests.support.registry_doors import publish, serve_adapter
from tests.support.stores import DAY_MS, GRU, MODEL, deployment
from tests.support.traces import trace

DATA = b"weights"
#: What ``invoiced`` issues.
INVOICE = "EF-2026-000001"
SHA256 = hashlib.sha256(DATA).digest()
TRACE_ID = trace(3).trace_id
RUNTIME = NewObject(ObjectKind.RUNTIME, "acme/rt@1", runtime=Runtime(""))
NEW = NewModel("acme/ext@1", ModelSource.EXTERNAL, context_tokens=8_192)
IMPORT = NewImport("hf://org/repo", "acme/up@1")


async def chunks() -> AsyncIterator[bytes]:
    yield DATA


class Case(NamedTuple):
    """One use case with arguments that work; ``subject`` None: it changes nothing."""

    call: Callable[[Operations, Actor], Coroutine[Any, Any, object]]
    #: Of the audit entry when it is done; the end of it may be chosen by the coordinator.
    subject: str | None = None
    #: Of the audit entry when it is refused.
    refused: str = ""


CASES = {
    Act.ACCOUNT_FUNDS: Case(
        lambda ops, who: ops.credits.set_funds(who, "acme", cap_nano_usd=10**9),
        "account/acme",
        "account/acme",
    ),
    Act.ACCOUNT_OWN_CAP: Case(
        lambda ops, who: ops.credits.set_own_cap(who, "acme", cap_nano_usd=10**9),
        "account/acme",
        "account/acme",
    ),
    Act.ALERT_LIST: Case(lambda ops, who: ops.alerts.list_all(who, "acme"), None, "account/acme"),
    Act.ALERT_SET: Case(
        lambda ops, who: ops.alerts.set_targets(who, "acme", email="cfo@acme.example"),
        "account/acme",
        "account/acme",
    ),
    Act.ALERT_TEST: Case(
        lambda ops, who: ops.alerts.test(who, "acme"), "account/acme", "account/acme"
    ),
    Act.CREDIT_GRANT: Case(
        lambda ops, who: ops.credits.grant(who, "acme", nano_usd=5, reason="trial"),
        "account/acme",
        "account/acme",
    ),
    Act.CREDIT_LIST: Case(lambda ops, who: ops.credits.list_all(who, "acme")),
    Act.INVOICE_CLOSE: Case(
        lambda ops, who: ops.invoices.close(who, "2026-09"), "month/2026-09", "month/2026-09"
    ),
    Act.INVOICE_CREDIT_NOTE: Case(
        lambda ops, who: ops.invoices.credit_note(who, INVOICE, cents=1, reason="why"),
        f"invoice/{INVOICE}",
        f"invoice/{INVOICE}",
    ),
    Act.INVOICE_LIST: Case(lambda ops, who: ops.invoices.list_all(who)),
    Act.INVOICE_PREVIEW: Case(
        lambda ops, who: ops.invoices.preview(who, "acme"), None, "account/acme"
    ),
    Act.INVOICE_PROFILE: Case(
        lambda ops, who: ops.invoices.set_profile(who, "acme", Party("Acme GmbH")),
        "account/acme",
        "account/acme",
    ),
    Act.INVOICE_SHOW: Case(
        lambda ops, who: ops.invoices.show(who, INVOICE), None, f"invoice/{INVOICE}"
    ),
    Act.LEDGER_CHECK: Case(lambda ops, who: ops.ledger.check(who)),
    Act.LEDGER_SHOW: Case(lambda ops, who: ops.ledger.show(who)),
    Act.PAYMENT_CHARGE: Case(
        lambda ops, who: ops.payments.charge(who, "acme", number=INVOICE),
        "account/acme",
        "account/acme",
    ),
    Act.PAYMENT_RECORD: Case(
        lambda ops, who: ops.payments.record(who, "acme", INVOICE, "SEPA"),
        f"invoice/{INVOICE}",
        "account/acme",
    ),
    Act.PAYMENT_SETUP: Case(
        lambda ops, who: ops.payments.set_up(who, "acme"), "account/acme", "account/acme"
    ),
    Act.PAYMENT_STATUS: Case(
        lambda ops, who: ops.payments.status(who, "acme"), None, "account/acme"
    ),
    Act.ACCOUNT_CREATE: Case(
        lambda ops, who: ops.accounts.create(who, "globex"), "account/globex", "account/globex"
    ),
    Act.ACCOUNT_LIMITS: Case(
        lambda ops, who: ops.accounts.set_limits(who, "acme", requests_per_minute=60),
        "account/acme",
        "account/acme",
    ),
    Act.ACCOUNT_ZONES: Case(
        lambda ops, who: ops.accounts.set_zones(who, "acme", ["BR"]),
        "account/acme",
        "account/acme",
    ),
    Act.ACCOUNT_LIST: Case(lambda ops, who: ops.accounts.list_all(who)),
    Act.ACCOUNT_RESUME: Case(
        lambda ops, who: ops.accounts.resume(who, "acme"), "account/acme", "account/acme"
    ),
    Act.ACCOUNT_SHOW: Case(lambda ops, who: ops.accounts.show(who, "acme"), None, "account/acme"),
    Act.ACCOUNT_SUSPEND: Case(
        lambda ops, who: ops.accounts.suspend(who, "acme", "abuse"), "account/acme", "account/acme"
    ),
    Act.ADAPTER_COMPARE: Case(
        lambda ops, who: ops.registry.compare(who, "acme/fr", "acme/fr@1"),
        "adapter/acme/fr@1",
        "adapter/acme/fr",
    ),
    Act.ADAPTER_PORT: Case(
        lambda ops, who: ops.registry.port(who, "acme/fr", "acme/other", "acme/fr@2"),
        "adapter/acme/fr@2",
        "adapter/acme/fr",
    ),
    Act.ADOPTION_ADVANCE: Case(
        lambda ops, who: ops.adoption.advance(who, TRACK.upstream),
        None,
        f"upstream/{TRACK.upstream}",
    ),
    Act.ADOPTION_LIST: Case(lambda ops, who: ops.adoption.list_all(who)),
    Act.ADOPTION_TRACK: Case(
        lambda ops, who: ops.adoption.track(who, "hf://org/repo"),
        "upstream/hf://org/repo@main",
        "upstream/hf://org/repo",
    ),
    Act.ADOPTION_UNTRACK: Case(
        lambda ops, who: ops.adoption.untrack(who, TRACK.upstream),
        f"upstream/{TRACK.upstream}",
        f"upstream/{TRACK.upstream}",
    ),
    Act.AUDIT_LIST: Case(lambda ops, who: ops.audit.list_page(who, AuditQuery(0))),
    Act.BLOB_FIND: Case(lambda ops, who: ops.models.find_missing(who, [SHA256])),
    Act.BLOB_PROGRESS: Case(lambda ops, who: ops.models.progress(who, [SHA256])),
    Act.BLOB_RESUME: Case(
        lambda ops, who: ops.models.resume(who, SHA256, len(DATA), 0, chunks()),
        f"blob/{SHA256.hex()}",
        f"blob/{SHA256.hex()}",
    ),
    Act.BLOB_UPLOAD: Case(
        lambda ops, who: ops.models.upload(who, SHA256, len(DATA), chunks()),
        f"blob/{SHA256.hex()}",
        f"blob/{SHA256.hex()}",
    ),
    Act.DEPLOYMENT_APPLY: Case(
        lambda ops, who: ops.deployments.apply(who, deployment("code"), [NODE]),
        "deployment/code",
        "deployment/code",
    ),
    Act.DEPLOYMENT_LIST: Case(lambda ops, who: ops.deployments.list_all(who)),
    Act.DEPLOYMENT_REMOVE: Case(
        lambda ops, who: ops.deployments.remove(who, "chat"), "deployment/chat", "deployment/chat"
    ),
    Act.DEPLOY_CREATE: Case(
        lambda ops, who: ops.deploys.create(who, deployment("code"), [NODE]),
        "deployment/code",
        "deployment/code",
    ),
    Act.DEPLOY_LIST: Case(lambda ops, who: ops.deploys.list_all(who)),
    Act.DEPLOY_ROLLBACK: Case(
        lambda ops, who: ops.deploys.rollback(who, "chat"), "deployment/chat", "deployment/chat"
    ),
    Act.DEPLOY_SHOW: Case(lambda ops, who: ops.deploys.show(who, "chat"), None, "deployment/chat"),
    Act.DEPLOY_UPDATE: Case(
        lambda ops, who: ops.deploys.update(who, deployment(), [NODE]),
        "deployment/chat",
        "deployment/chat",
    ),
    Act.INVITATION_LIST: Case(
        lambda ops, who: ops.members.list_invitations(who, "acme"), None, "account/acme"
    ),
    Act.INVITATION_WITHDRAW: Case(
        lambda ops, who: ops.members.withdraw(who, INVITATION_ID),
        f"invitation/{INVITATION_ID}",
        f"invitation/{INVITATION_ID}",
    ),
    Act.KEY_CREATE: Case(lambda ops, who: ops.keys.create(who, "acme"), "key/", "account/acme"),
    Act.KEY_LIST: Case(lambda ops, who: ops.keys.list_all(who), None, "account/"),
    Act.KEY_REVOKE: Case(lambda ops, who: ops.keys.revoke(who, "k-1"), "key/k-1", "key/k-1"),
    Act.KEY_ROTATE: Case(lambda ops, who: ops.keys.rotate(who, "k-1"), "key/k-1", "key/k-1"),
    Act.MEMBER_INVITE: Case(
        lambda ops, who: ops.members.invite(who, "acme", "bo@example.org", "viewer"),
        "invitation/",
        "account/acme",
    ),
    Act.MEMBER_LIST: Case(lambda ops, who: ops.members.list_all(who, "acme"), None, "account/acme"),
    Act.MEMBER_REMOVE: Case(
        lambda ops, who: ops.members.remove(who, "m-2"), "member/m-2", "member/m-2"
    ),
    Act.MEMBER_SET_ROLE: Case(
        lambda ops, who: ops.members.set_role(who, "m-2", "viewer"), "member/m-2", "member/m-2"
    ),
    Act.MEMBER_TOKEN_CREATE: Case(
        lambda ops, who: ops.members.create_token(who, "m-1"), "member/m-1", "member/m-1"
    ),
    Act.MEMBER_TOKEN_LIST: Case(
        lambda ops, who: ops.members.list_tokens(who, "m-1"), None, "member/m-1"
    ),
    Act.MEMBER_TOKEN_REVOKE: Case(
        lambda ops, who: ops.members.revoke_token(who, "t-1"), "token/t-1", "token/t-1"
    ),
    Act.MODEL_LIST: Case(lambda ops, who: ops.models.list_all(who)),
    Act.MODEL_REGISTER: Case(
        lambda ops, who: ops.models.register(who, NEW), "model/acme/ext@1", "model/acme/ext@1"
    ),
    Act.NODE_CORDON: Case(
        lambda ops, who: ops.nodes.cordon(who, NODE, "fans"), "node/gru-1", "node/gru-1"
    ),
    Act.NODE_DRAIN: Case(
        lambda ops, who: ops.nodes.drain(who, NODE, "fans"), "node/gru-1", "node/gru-1"
    ),
    Act.NODE_LIST: Case(lambda ops, who: ops.nodes.list_all(who)),
    Act.NODE_REMOVE: Case(
        lambda ops, who: ops.nodes.remove(who, NODE, force=True), "node/gru-1", "node/gru-1"
    ),
    Act.NODE_REPLACE: Case(
        lambda ops, who: ops.nodes.replace(who, NODE, "iad-1"), "node/gru-1", "node/gru-1"
    ),
    Act.NODE_RESUME: Case(lambda ops, who: ops.nodes.resume(who, NODE), "node/gru-1", "node/gru-1"),
    Act.NODE_RETIRE: Case(
        lambda ops, who: ops.nodes.retire(who, NODE, "old", force=True), "node/gru-1", "node/gru-1"
    ),
    Act.OBJECT_LIST: Case(lambda ops, who: ops.registry.list_all(who, ObjectKind.MODEL)),
    Act.OBJECT_PUBLISH: Case(
        lambda ops, who: ops.registry.publish(who, RUNTIME),
        "runtime/acme/rt@1",
        "runtime/acme/rt@1",
    ),
    Act.OBJECT_REMOVE: Case(
        lambda ops, who: ops.registry.remove(who, "acme/fr@1", ObjectKind.ADAPTER),
        "adapter/acme/fr@1",
        "adapter/acme/fr@1",
    ),
    Act.OBJECT_RESOLVE: Case(
        lambda ops, who: ops.registry.resolve(who, "acme/fr", ObjectKind.ADAPTER),
        None,
        "adapter/acme/fr",
    ),
    Act.OBJECT_SHOW: Case(
        lambda ops, who: ops.registry.show(who, "acme/fr", ObjectKind.ADAPTER),
        None,
        "adapter/acme/fr",
    ),
    Act.OBJECT_VERIFY: Case(
        lambda ops, who: ops.registry.verify(who, "acme/fr", ObjectKind.ADAPTER),
        None,
        "adapter/acme/fr",
    ),
    Act.OPERATOR_INVITE: Case(
        lambda ops, who: ops.operators.invite(who, "carl", "viewer"),
        "operator/carl",
        "operator/carl",
    ),
    Act.OPERATOR_LIST: Case(lambda ops, who: ops.operators.list_all(who)),
    Act.OPERATOR_RENEW: Case(
        lambda ops, who: ops.operators.renew(who, request_der(ANA_KEY)), "operator/ana"
    ),
    Act.OPERATOR_REVOKE: Case(
        lambda ops, who: ops.operators.revoke(who, "bo"), "operator/bo", "operator/bo"
    ),
    Act.OPERATOR_SET_ROLE: Case(
        lambda ops, who: ops.operators.set_role(who, "bo", "operator"), "operator/bo", "operator/bo"
    ),
    Act.PLAN_APPLY: Case(lambda ops, who: ops.plans.apply(who, []), "plan", "plan"),
    Act.PLAN_FORBID: Case(
        lambda ops, who: ops.plans.forbid(who, MODEL.name, "", NODE), "plan", "plan"
    ),
    Act.PLAN_FREEZE: Case(lambda ops, who: ops.plans.freeze(who, []), "plan", "plan"),
    Act.PLAN_PIN: Case(lambda ops, who: ops.plans.pin(who, MODEL.name, "GRU", ""), "plan", "plan"),
    Act.PLAN_RELEASE: Case(
        lambda ops, who: ops.plans.release(who, MODEL.name, "GRU", ""), "plan", "plan"
    ),
    Act.PLAN_SHOW: Case(lambda ops, who: ops.plans.show(who), None, "plan"),
    Act.PLAN_UNFREEZE: Case(lambda ops, who: ops.plans.unfreeze(who, []), "plan", "plan"),
    Act.POP_CREATE: Case(
        lambda ops, who: ops.pops.create(who, replace(GRU, id="FOR")), "pop/FOR", "pop/FOR"
    ),
    Act.POP_LIST: Case(lambda ops, who: ops.pops.list_all(who)),
    Act.POP_COST: Case(
        lambda ops, who: ops.reports.set_cost(who, "GRU", 10**9), "pop/GRU", "pop/GRU"
    ),
    Act.REPORT_METRICS: Case(lambda ops, who: ops.reports.metrics(who)),
    Act.REPORT_POPS: Case(lambda ops, who: ops.reports.pops(who)),
    Act.REPORT_SLA: Case(lambda ops, who: ops.reports.sla(who)),
    Act.PRICE_HISTORY: Case(lambda ops, who: ops.prices.history(who)),
    Act.PRICE_PROPOSE: Case(
        lambda ops, who: ops.prices.propose(who, first_card("x", 0)), "price_card"
    ),
    Act.PRICE_PUBLISH: Case(
        lambda ops, who: ops.prices.publish(who, 2), "price_card/2", "price_card/2"
    ),
    Act.PRICE_QUOTE: Case(lambda ops, who: ops.quotes.quote(who, "chat"), None, "deployment/chat"),
    Act.PRICE_SHOW: Case(lambda ops, who: ops.prices.show(who)),
    Act.PRICE_LIST: Case(lambda ops, who: ops.prices.list_all(who)),
    Act.REPOSITORY_LIST: Case(lambda ops, who: ops.repositories.list_all(who)),
    Act.REPOSITORY_PLACE: Case(lambda ops, who: ops.repositories.place(who)),
    Act.REPOSITORY_SHOW: Case(
        lambda ops, who: ops.repositories.show(who, "acme/m"), None, "repository/acme/m"
    ),
    Act.ROUTE_EXPLAIN: Case(
        lambda ops, who: ops.routes.explain(who, "chat", "GRU"), None, "deployment/chat"
    ),
    Act.SIGN_UP_INVITE: Case(
        lambda ops, who: ops.members.invite_to_sign_up(who), "invitation/", ""
    ),
    Act.TABLE_FORCE: Case(
        lambda ops, who: ops.tables.force(who, ResourceType.PRICES), "table/prices", "table/prices"
    ),
    Act.TOKEN_CREATE: Case(
        lambda ops, who: ops.enrolment_tokens.create(who, "GRU", node_id="", ttl_s=0),
        "node/",
        "pop/GRU",
    ),
    Act.TRACE_LIST: Case(lambda ops, who: ops.traces.list_page(who, TraceFilter())),
    Act.TRACE_SHOW: Case(
        lambda ops, who: ops.traces.find(who, TRACE_ID), None, f"trace/{TRACE_ID}"
    ),
    Act.UPSTREAM_IMPORT: Case(
        lambda ops, who: ops.upstream_imports.run(who, IMPORT.name, IMPORT),
        f"model/{IMPORT.name}",
        f"object/{IMPORT.name}",
    ),
    Act.UPSTREAM_TOKEN: Case(
        lambda ops, who: ops.upstream_imports.set_token(who, "acme", "hf_x"),
        "owner/acme",
        "owner/acme",
    ),
    Act.USAGE_EXPORT: Case(lambda ops, who: ops.usage.export(who, LineFilter())),
    Act.USAGE_EXPORTS: Case(lambda ops, who: ops.usage.exports(who)),
    Act.USAGE_QUARANTINE: Case(lambda ops, who: ops.usage.quarantine(who)),
    Act.USAGE_READ: Case(lambda ops, who: ops.usage.sums(who, UsageQuery())),
    Act.USAGE_SETTLE: Case(
        lambda ops, who: ops.usage.settle(who, [1], count=False),
        "usage/quarantine",
        "usage/quarantine",
    ),
}


#: What needs an adapter to be there.
ADAPTER_ACTS = {
    Act.ADAPTER_COMPARE,
    Act.ADAPTER_PORT,
    Act.OBJECT_REMOVE,
    Act.OBJECT_RESOLVE,
    Act.OBJECT_SHOW,
    Act.OBJECT_VERIFY,
}


#: What needs an invoice to be there.
INVOICE_ACTS = {
    Act.INVOICE_CREDIT_NOTE,
    Act.INVOICE_SHOW,
    Act.PAYMENT_CHARGE,
    Act.PAYMENT_RECORD,
}


async def used(fleet) -> None:
    """Use something in September 2026, on the fleet's clock."""
    delta = usage(nano_usd=100 * CENT, at_unix_ms=fleet.clock())
    await fleet.usage_db.run(lambda one: count(one, [delta], fleet.clock()), lambda done: None)


async def invoiced(fleet) -> None:
    """Issue the invoice of September 2026."""
    await used(fleet)
    now = fleet.clock()
    await fleet.usage_db.write(lambda one: invoices.issue(one, "acme", "2026-09", rules(), now))


#: What must have been done before an act.
BEFORE = {
    Act.ALERT_TEST: lambda ops: ops.alerts.set_targets(actor(), "acme", email="a@acme.example"),
    Act.ACCOUNT_RESUME: lambda ops: ops.accounts.suspend(actor(), "acme", "abuse"),
    Act.DEPLOY_ROLLBACK: lambda ops: ops.deploys.update(actor(), deployment(), [NODE]),
    Act.PLAN_APPLY: lambda ops: ops.plans.freeze(actor(), []),
    Act.PLAN_RELEASE: lambda ops: ops.plans.pin(actor(), MODEL.name, "GRU", ""),
    Act.PRICE_PUBLISH: lambda ops: ops.prices.propose(actor(), first_card("x", 0)),
}


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("act", list(Act))
async def test_each_role_against_each_use_case(fleet, ops, act, role):
    fleet.agents.traces[TRACE_ID] = trace(3)
    await put_members(fleet)
    case, who = CASES[act], actor(role)
    if act in ADAPTER_ACTS:
        for name, files in (("acme/base@1", base_files()), ("acme/other@1", base_files("other"))):
            await publish(ops, actor(), ObjectKind.MODEL, name, files)
        await publish(ops, actor(), ObjectKind.ADAPTER, "acme/fr@1", adapter_files())
        await serve_adapter(fleet, "acme/fr@1", "acme/base@1", text="one")
    if act in BEFORE:
        await BEFORE[act](ops)
    if act in INVOICE_ACTS:
        await invoiced(fleet)
    elif act is Act.INVOICE_CLOSE:
        await used(fleet)
        fleet.clock.unix_ms += 31 * DAY_MS
    before, tables = await fleet.notes(), versions(fleet)
    if role.covers(NEEDS[act]):
        await case.call(ops, who)
        new = (await fleet.notes())[len(before) :]
        if case.subject is None:
            assert new == []
        else:
            ((by, action, subject, _),) = new
            assert (by, action) == ("operator/ana", act)
            assert subject.startswith(case.subject)
        return
    with pytest.raises(Forbidden, match=f"has the role {role}, {act} needs {NEEDS[act]}"):
        await case.call(ops, who)
    ((by, action, subject, detail),) = (await fleet.notes())[len(before) :]
    assert (by, action, subject) == ("operator/ana", act, case.refused)
    assert detail == f"refused: needs {NEEDS[act]}, has {role}, from 192.0.2.7"
    assert versions(fleet) == tables
    assert (fleet.agents.asked, fleet.forced, fleet.resumed, fleet.ordered) == ([], [], [], [])
    assert fleet.operators_changed == []


def versions(fleet) -> list[object]:
    return [fleet.store.table(one).at for one in ResourceType] + [
        dict(fleet.store.node_orders()),
        dict(fleet.store.operators()),
    ]


async def test_refusals_of_one_actor_cannot_fill_the_audit(fleet, ops):
    before = len(await fleet.notes())
    for _ in range(50):
        with pytest.raises(Forbidden):
            await ops.keys.create(actor(Role.VIEWER), "acme")
    assert len(await fleet.notes()) - before == 10
    with pytest.raises(Forbidden):
        await ops.keys.create(actor(Role.VIEWER, "bo"), "acme")
    assert len(await fleet.notes()) - before == 11


async def test_what_a_refused_call_named_is_one_short_line_in_the_audit(fleet, ops):
    with pytest.raises(Forbidden):
        await ops.nodes.remove(actor(Role.VIEWER), "gru-1\n" + "x" * 500)
    (_, _, subject, _) = (await fleet.notes())[-1]
    assert subject.startswith("node/gru-1\\n" + "x" * 50)
    assert len(subject) < 120
