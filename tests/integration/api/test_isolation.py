"""Accounts see only their own: every route of the table, with what is another account's."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from coordinator.api.customer.table import ROUTES
from coordinator.billing import customers
from coordinator.billing.invoices import issue
from coordinator.core.members import INVITATION_LIFE_MS, Invitation, MemberRole
from coordinator.operations.actor import Actor
from coordinator.operations.keys import Scopes
from coordinator.store import deployments, models
from coordinator.store.member_facts import InvitationRow
from protos.domain.resources import Adapter
from tests.support.billing import CENT, FEBRUARY, MARCH, count, usage
from tests.support.customer_api import RunningApi
from tests.support.operations import NODE, line
from tests.support.stores import FILES, MODEL, deployment
from tests.support.traces import trace

TRACE = trace(7, account="globex", deployment="globex/bot")
SECRET = "tell-nobody"
#: What each part of a path names, of globex; {} of which acme has one too.
THEIRS = {
    "member_id": "m-22",
    "token_id": "22".rjust(16, "0"),
    "invitation_id": "e" * 16,
    "key_id": "k-2",
    "import_id": "i-0011",
    "trace_id": TRACE.trace_id,
    "number": "set below",
}
#: Bodies with which the route does something for its own account.
BODIES = {
    "set_member_role": {"role": "viewer"},
    "rotate_key": {},
    "update_deployment": {"strict": True},
    "rollback_deployment": {},
}
#: Names of objects, by the kind in the path.
OBJECTS = {"models": "globex%2Fsecret@1", "adapters": "globex%2Flora@1"}
NAMED = [route for route in ROUTES if route.params]
#: What changes the account must not run before others are asked for.
CHANGES = {"DELETE", "PATCH", "POST"}


async def put_globex(api: RunningApi) -> dict[str, str]:
    """Give globex one of everything; return what each part of a path names."""
    fleet = api.fleet
    secret = replace(MODEL, name="globex/secret@1", account_id="globex")
    lora = Adapter("globex/lora@1", MODEL.name, 8, 1_000, b"l" * 32, account_id="globex")
    await fleet.store.write(models.register(secret, FILES))
    await fleet.store.write(lambda tx: tx.put(lora))
    bot = deployment("globex/bot", "globex", secret.name)
    await fleet.store.write(deployments.put(bot, [NODE], create_only=True))
    other = replace(bot, name="globex/again", revision=1)
    await fleet.store.write(deployments.put(other, [NODE], create_only=True))
    invitation = Invitation(
        *("e" * 16, b"i" * 32, "globex", MemberRole.VIEWER, f"{SECRET}@example.org"),
        *(fleet.clock(), "member/m-20", fleet.clock() + INVITATION_LIFE_MS),
    )
    await fleet.store.write(lambda tx: tx.put_fact(InvitationRow(invitation)))
    fleet.agents.traces[TRACE.trace_id] = TRACE
    fleet.agents.lines[NODE] = [
        line(7, trace_id=TRACE.trace_id, account="globex", deployment="globex/bot"),
        line(8, account="acme"),
        line(9, account=""),
    ]

    def write(connection):
        count(connection, [usage("globex", 500 * CENT, deployment=SECRET)], FEBRUARY)
        customers.change(
            connection, "globex", lambda known: replace(known, alert_email=f"{SECRET}@x.org")
        )

    await fleet.usage_db.run(write, lambda done: None)
    issued = await fleet.usage_db.write(
        lambda one: issue(one, "globex", "2028-02", fleet.billing.rules, MARCH)
    )

    async def never(job):
        return SECRET

    job = api.listener.services.imports.begin("globex", "hf://x/y", SECRET, never)
    return {**THEIRS, "number": issued.number, "import_id": job.id}


def path_of(route, names: dict[str, str], account: str) -> str:
    named = dict(names)
    named["name"] = f"{account}%2Fbot"
    named["ref"] = OBJECTS.get(route.tag, "").replace("globex", account)
    return route.path.format(**named)


async def ask(api: RunningApi, route, path: str, account: str):
    body = BODIES.get(route.name, {}) if route.body is not None else None
    return await api.call(route.method, path, body, token=api.token("owner", account))


async def test_what_is_another_accounts_is_like_what_is_nobodys_on_every_route(api):
    names = await put_globex(api)
    assert len(NAMED) >= 18
    for route in NAMED:
        theirs = await ask(api, route, path_of(route, names, "globex"), "acme")
        assert theirs.status == 404, (route.name, theirs)
        nobodys = {name: "0" * len(value) for name, value in names.items()}
        nothing = await ask(api, route, path_of(route, nobodys, "nobody"), "acme")
        assert nothing.status == 404, (route.name, nothing)
        assert nothing.body["error"]["code"] == theirs.body["error"]["code"]
        assert SECRET not in json.dumps(theirs.body)
    for route in sorted(NAMED, key=lambda one: one.method in CHANGES):
        path = path_of(route, names, "globex")
        if route.method == "DELETE":
            continue
        own = await ask(api, route, path, "globex")
        assert own.status not in (401, 403, 404), (route.name, own)


async def test_no_list_shows_what_is_another_accounts(api):
    await put_globex(api)
    asked = [one for one in ROUTES if not one.params and one.method == "GET"]
    assert len(asked) >= 15
    for route in asked:
        mine = await api.call("GET", route.path)
        assert mine.status == 200, (route.name, mine)
        said = mine.body.decode() if isinstance(mine.body, bytes) else json.dumps(mine.body)
        for theirs in (SECRET, "globex", TRACE.trace_id):
            assert theirs not in said, route.name


async def test_traces_of_agents_that_know_no_accounts_are_shown_to_nobody(api):
    await put_globex(api)
    listed = await api.call("GET", "/v1/traces")
    assert [one["trace_id"] for one in listed.body["items"]] == [f"{8:032x}"]


async def test_every_use_case_that_names_an_account_refuses_another_accounts(api):
    """The use cases themselves, whatever door comes later."""
    member = Actor.of_member(api.fleet.store.members()["m-10"])
    ops = api.operations
    for asked in (
        ops.accounts.show(member, "globex"),
        ops.keys.create(member, "globex", scopes=Scopes()),
        ops.keys.list_all(member, "globex"),
        ops.members.list_all(member, "globex"),
        ops.members.invite(member, "globex", "x@example.org", "viewer"),
        ops.members.list_invitations(member, "globex"),
        ops.members.create_token(member, "m-20"),
        ops.members.list_tokens(member, "m-20"),
        ops.credits.list_all(member, "globex"),
        ops.invoices.preview(member, "globex"),
        ops.payments.status(member, "globex"),
        ops.alerts.list_all(member, "globex"),
    ):
        with pytest.raises(Exception, match="there is no") as caught:
            await asked
        assert caught.value.http_status == 404


async def test_what_another_account_owns_is_not_deployed(api):
    await put_globex(api)
    body = {"name": "acme/spy", "model": "globex/secret@1", "ttft_budget_ms": 80}
    refused = await api.call("POST", "/v1/deployments", body)
    assert (refused.status, refused.body["error"]["code"]) == (404, "not_found")
    named = {"name": "globex/bot", "model": MODEL.name, "ttft_budget_ms": 80}
    assert (await api.call("POST", "/v1/deployments", named)).status == 403
    squat = {"name": "bot", "model": MODEL.name, "ttft_budget_ms": 80}
    assert (await api.call("POST", "/v1/deployments", squat)).status == 403


async def test_a_key_is_not_limited_to_another_accounts_deployment(api):
    await put_globex(api)
    made = await api.call("POST", "/v1/keys", {"deployments": ["globex/bot"]})
    assert made.status == 404
