"""What outlives a member or a body that is slow, and what one customer can take from others."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from coordinator.api.customer.access import MAX_DOWNLOADS_OF_ACCOUNT
from coordinator.api.customer.imports import _MAX_ACCOUNTS, ImportJobs
from coordinator.core.members import SignUp
from coordinator.store import models
from coordinator.usage.exports import UsageExports
from protos.domain.errors import Overloaded
from tests.support.customer_api import running_api
from tests.support.operations import FILES, MODEL

SIGN_UP = {"account": "initech", "email": "ana@example.org"}


async def begun(api, path: str, token: str = "", body: bytes = b"{}"):
    """Send a request without the last byte of its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.listener.port)
    writer.write(
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
        % (path.encode(), token.encode(), len(body), body[:-1])
    )
    await writer.drain()
    return reader, writer


async def ended(stream, body: bytes = b"{}") -> bytes:
    """Send the last byte; return the answer's head."""
    reader, writer = stream
    writer.write(body[-1:])
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    writer.close()
    return answer


async def member_id(api, role: str) -> str:
    found = await api.call("GET", "/v1/members")
    return next(one["id"] for one in found.body["items"] if one["role"] == role)


async def test_a_member_who_is_removed_while_its_body_comes_does_nothing_more(api):
    stream = await begun(api, "/v1/keys", api.token("developer"))
    await api.call("GET", "/v1/me", token=api.token("developer"))  # the head before was read
    keys = set(api.fleet.store.view().keys)
    gone = await member_id(api, "developer")
    assert (await api.call("DELETE", f"/v1/members/{gone}")).status == 204
    assert b" 401 " in await ended(stream)
    assert set(api.fleet.store.view().keys) == keys


async def test_a_role_that_is_taken_while_a_body_comes_is_taken(api):
    stream = await begun(api, "/v1/keys", api.token("developer"))
    await api.call("GET", "/v1/me", token=api.token("developer"))
    one = await member_id(api, "developer")
    lowered = await api.call("PATCH", f"/v1/members/{one}", {"role": "viewer"})
    assert lowered.status == 200
    assert b" 403 " in await ended(stream)


async def test_slow_bodies_do_not_keep_others_out(tmp_path):
    async with running_api(tmp_path, SignUp.OPEN) as api, contextlib.AsyncExitStack() as stack:
        for _ in range(80):  # the listener takes 64 connections
            _, writer = await begun(api, "/v1/sign-up")
            stack.callback(writer.close)
        async with asyncio.timeout(5):
            answer = await api.call("GET", "/v1/me")
        assert answer.status == 200


async def invitation_of(api, token: str, role: str) -> str:
    made = await api.call(
        "POST", "/v1/invitations", {"email": "eve@example.org", "role": role}, token=token
    )
    assert made.status == 201, made
    return made.body["invitation"]


async def join(api, invitation: str):
    body = {"invitation": invitation, "email": "eve@example.org"}
    return await api.call("POST", "/v1/join", body, token=None)


async def test_a_member_who_was_removed_does_not_come_back_by_its_own_invitation(api):
    invitation = await invitation_of(api, api.token("admin"), "admin")
    own = await invitation_of(api, api.token("owner"), "admin")
    gone = await member_id(api, "admin")
    assert (await api.call("DELETE", f"/v1/members/{gone}")).status == 204
    refused = await join(api, invitation)
    assert (refused.status, refused.body["error"]["code"]) == (404, "invitation_invalid")
    assert (await join(api, own)).status == 201


@pytest.mark.parametrize(("role", "status"), [("viewer", 404), ("owner", 201)])
async def test_an_invitation_outlives_a_change_of_role_only_if_the_new_one_may_give_it(
    api, role, status
):
    invitation = await invitation_of(api, api.token("admin"), "admin")
    one = await member_id(api, "admin")
    assert (await api.call("PATCH", f"/v1/members/{one}", {"role": role})).status == 200
    assert (await join(api, invitation)).status == status


@pytest.mark.parametrize("act", ["PATCH", "DELETE"])
async def test_a_role_that_changes_while_it_is_looked_at_is_looked_at_again(api, monkeypatch, act):
    """An admin may not touch an owner, also not one who has become it a moment ago."""
    store, one = api.fleet.store, await member_id(api, "viewer")
    looked_at = dict(store.members())
    assert (await api.call("PATCH", f"/v1/members/{one}", {"role": "owner"})).status == 200
    monkeypatch.setattr(store, "members", lambda: looked_at)
    body = {"role": "viewer"} if act == "PATCH" else None
    raced = await api.call(act, f"/v1/members/{one}", body, token=api.token("admin"))
    monkeypatch.undo()
    assert raced.status == 409
    assert store.members()[one].role == "owner"


async def test_nobody_signs_up_as_an_owner_for_whom_operators_keep_something(tmp_path):
    async with running_api(tmp_path, SignUp.OPEN) as api:
        published = replace(MODEL, name="meta-llama/chat@1", account_id="")
        await api.fleet.store.write(models.register(published, FILES))
        await api.operations.upstream_imports.set_token(api.fleet.admin, "qwen-team", "hf_secret")
        for name in ("meta-llama", "qwen-team"):
            refused = await api.call("POST", "/v1/sign-up", {**SIGN_UP, "account": name})
            assert (refused.status, refused.body["error"]["code"]) == (409, "conflict"), name
            assert name not in api.fleet.store.view().accounts
        assert (await api.call("POST", "/v1/sign-up", SIGN_UP)).status == 201


async def test_one_account_has_few_downloads_open_and_others_have_theirs(api, monkeypatch):
    waits = asyncio.Event()

    async def slow(_wanted):
        yield []
        await waits.wait()

    monkeypatch.setattr(UsageExports, "lines", lambda _self, wanted: slow(wanted))
    async with contextlib.AsyncExitStack() as stack:

        async def download(account: str):
            return await stack.enter_async_context(
                api.session.get(
                    f"{api.origin}/v1/usage/lines",
                    headers={"Authorization": f"Bearer {api.token(account=account)}"},
                )
            )

        first = [await download("acme") for _ in range(MAX_DOWNLOADS_OF_ACCOUNT)]
        assert {one.status for one in first} == {200}
        refused = await download("acme")
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) > 0
        assert (await download("globex")).status == 200
        waits.set()
        for one in first:
            assert await one.read() == b""
        assert (await download("acme")).status == 200


async def test_an_import_that_runs_is_not_forgotten_for_those_of_others():
    jobs, may_end = ImportJobs(lambda: 1), asyncio.Event()

    async def slow(_job):
        await may_end.wait()
        return "acme/m@1"

    async def quick(_job):
        return "x/m@1"

    jobs.begin("acme", "hf://a/b", "acme/m", slow)
    for number in range(_MAX_ACCOUNTS + 1):
        jobs.begin(f"other-{number}", "hf://a/b", "x/m", quick)
        await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="imports something already"):
        jobs.begin("acme", "hf://a/b", "acme/m", slow)
    may_end.set()
    await jobs.close()
