"""Strangers and hostile requests at the port of the customers' API."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

import coordinator.api.customer.reading
from coordinator.api.customer.access import Rates
from coordinator.api.customer.dispatch import SECURITY_HEADERS
from coordinator.api.customer.table import ROUTES
from coordinator.core.members import MemberRole
from coordinator.operations.account_acts import OF_MEMBERS
from coordinator.operations.acts import Act
from tests.support.customer_api import RunningApi, running_api
from tests.support.members import put_member, token_text
from tests.support.strangers import MALFORMED, MARK, talk

WITH_TOKEN = [route for route in ROUTES if route.act is not None]
#: Parts of paths that are well formed and name nothing.
FILLED = {
    "member_id": "m-0",
    "token_id": "0",
    "invitation_id": "0",
    "key_id": "0",
    "ref": "none@1",
    "import_id": "i-0",
    "name": "none",
    "trace_id": "0" * 32,
    "number": "NONE-1",
}


def path_of(route) -> str:
    return route.path.format(**FILLED)


def body_of(route):
    return {} if route.body is not None else None


WRONG_TOKENS = [
    None,
    "wrong",
    "k-1",
    "ef-0a1b2c3d4e5f-" + "0" * 48,
    "efm-" + "1" * 16 + "-" + "0" * 64,
    token_text("10")[:-1] + "x",
    token_text("10").upper(),
    "efm--",
    "é",
]


async def test_without_a_valid_token_every_route_says_the_same(api):
    for token in WRONG_TOKENS:
        answers = set()
        sent = {} if token is None else {"Authorization": f"Bearer {token}"}
        for route in WITH_TOKEN[:19]:
            body = body_of(route)
            answer = await api.call(route.method, path_of(route), body, token=None, headers=sent)
            answers.add((answer.status, json.dumps(answer.body)))
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert len(answers) == 1
        ((status, body),) = answers
        assert status == 401
        assert json.loads(body)["error"]["code"] == "invalid_token"


async def test_an_api_key_opens_nothing_of_the_account(api):
    """It is for inference: who has it must not administer."""
    for route in WITH_TOKEN[:15]:
        answer = await api.call(route.method, path_of(route), body_of(route), token="k-1")
        assert answer.status == 401, route.name


async def test_a_token_that_was_revoked_or_has_expired_ends_at_once(api):
    made = await api.call("POST", "/v1/tokens", {"name": "laptop", "ttl_s": 60})
    assert (await api.call("GET", "/v1/me", token=made.body["token"])).status == 200
    api.fleet.clock.unix_ms += 60_001
    assert (await api.call("GET", "/v1/me", token=made.body["token"])).status == 401
    again = await api.call("POST", "/v1/tokens", {})
    assert (await api.call("DELETE", f"/v1/tokens/{again.body['id']}")).status == 204
    assert (await api.call("GET", "/v1/me", token=again.body["token"])).status == 401


async def test_a_removed_members_tokens_end_with_it(api):
    gone = api.token("developer")
    assert (await api.call("GET", "/v1/me", token=gone)).status == 200
    assert (await api.call("DELETE", "/v1/members/m-12")).status == 204
    assert (await api.call("GET", "/v1/me", token=gone)).status == 401


@pytest.mark.parametrize("role", list(MemberRole))
async def test_each_role_against_each_route(api, role):
    token = api.token(str(role))
    for route in WITH_TOKEN:
        if route.act in (Act.PAYMENT_SETUP, Act.PAYMENT_CHARGE):
            continue  # below: they need a provider
        answer = await api.call(route.method, path_of(route), body_of(route), token=token)
        if route.act in OF_MEMBERS[role]:
            assert answer.status not in (401, 403), (route.name, answer)
        else:
            assert answer.status == 403, (route.name, answer)
            assert "your role is" in answer.body["error"]["message"]


async def test_a_suspended_account_reads_and_revokes_and_begins_nothing(api):
    await api.operations.accounts.suspend(api.fleet.admin, "acme", "chargeback of May")
    shown = await api.call("GET", "/v1/account")
    assert shown.body["state"] == "suspended"
    assert shown.body["state_reason"] == "chargeback of May"
    refused = await api.call("POST", "/v1/keys", {})
    assert (refused.status, refused.body["error"]["code"]) == (403, "account_suspended")
    assert (await api.call("DELETE", "/v1/keys/k-1")).status == 204
    await api.operations.accounts.resume(api.fleet.admin, "acme")
    assert (await api.call("POST", "/v1/keys", {})).status == 201


WRONG_BODIES = [
    (b"", "not JSON"),
    (b"{", "not JSON"),
    (b"[1]", "must be"),
    (b"null", "must be"),
    (b'{"a": NaN}', "no number"),
    (b'{"name": "a", "name": "b"}', "given twice"),
    (b'{"name": 7}', "name"),
    (b'{"ttl_s": "60"}', "ttl_s"),
    (b'{"ttl_s": 1.5}', "ttl_s"),
    (b'{"ttl_s": -1}', "ttl_s"),
    (b'{"unknown": 1}', "unknown"),
    (b'{"name": "\xff"}', "not JSON"),
    (b'{"name": "\\ud800"}', "must be"),
    (b"[" * 30_000, "not JSON"),
]


async def test_a_body_that_is_not_as_it_must_be_is_refused_and_named(api, caplog):
    for body, says in WRONG_BODIES:
        answer = await api.call(
            "POST", "/v1/tokens", data=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status == 400, answer
        assert says in answer.body["error"]["message"]
        assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


OTHER_TYPES = ["text/plain", "application/xml", "multipart/form-data", ""]


async def test_a_body_of_another_type_is_refused(api):
    for content_type in OTHER_TYPES:
        answer = await api.call(
            "POST", "/v1/tokens", data=b"{}", headers={"Content-Type": content_type or "x"}
        )
        assert (answer.status, answer.body["error"]["code"]) == (415, "unsupported_media_type")


async def test_a_packed_body_is_not_unpacked(api):
    sent = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = await api.call("POST", "/v1/tokens", data=b"\x1f\x8b", headers=sent)
    assert answer.status in (400, 415)


async def test_a_huge_body_is_refused_unread(api):
    answer = await api.call(
        "POST",
        "/v1/tokens",
        data=b" " * (65 * 1024),
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status, answer.body["error"]["code"]) == (413, "too_large")


async def test_a_huge_body_of_unknown_length_is_cut(api):
    async def endless():
        for _ in range(10_000):
            yield b" " * 1_024

    async with api.session.post(
        f"{api.origin}/v1/tokens",
        data=endless(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {api.token()}"},
    ) as answer:
        assert answer.status == 413


async def test_a_body_that_comes_too_slowly_is_refused(api, monkeypatch):
    monkeypatch.setattr(coordinator.api.customer.reading, "BODY_TIMEOUT_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", api.listener.port)
    writer.write(
        b"POST /v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: 10\r\n\r\n{" % api.token().encode()
    )
    answer = await asyncio.wait_for(reader.read(65_536), 10)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in answer


async def test_a_body_where_none_is_taken_is_refused(api):
    answer = await api.call("GET", "/v1/account", {"a": 1})
    assert answer.status == 400


WRONG_QUERIES = ["?limit=0", "?limit=x", "?limit=201", "?cursor=%21", "?a=1", "?limit=1&limit=2"]


async def test_a_query_that_is_not_as_it_must_be_is_refused(api):
    for query in WRONG_QUERIES:
        assert (await api.call("GET", f"/v1/keys{query}")).status == 400


OVERRIDES = ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"]


async def test_a_header_does_not_change_the_method(api):
    for header in OVERRIDES:
        answer = await api.call("GET", "/v1/keys/k-1", headers={header: "DELETE"})
        assert answer.status == 405
        assert answer.headers["Allow"] == "DELETE"
        listed = await api.call("GET", "/v1/keys", headers={header: "POST"})
        assert [one["id"] for one in listed.body["items"]] == ["k-1"]


async def test_other_methods_are_refused(api):
    for method in ("TRACE", "OPTIONS", "HEAD", "BREW", "DELETE"):
        assert (await api.call(method, "/v1/account")).status in (400, 405)


async def test_no_other_sites_page_may_read_an_answer(api):
    answer = await api.call("GET", "/v1/account", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers[name] == value
    assert "Server" not in answer.headers


async def test_malformed_requests_are_refused_without_their_text(api, caplog):
    for data in MALFORMED:
        answer = await talk(api.listener.port, data)
        assert MARK not in answer
        assert answer[9:10] in (b"", b"4")
        assert MARK.decode() not in caplog.text


async def test_too_many_requests_of_a_token_are_refused_for_a_while(tmp_path):
    async with running_api(tmp_path, rates=Rates(token_at_once=3, token_per_s=0.001)) as api:
        statuses = [(await api.call("GET", "/v1/me")).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        refused = await api.call("GET", "/v1/me")
        assert int(refused.headers["Retry-After"]) > 0
        assert (await api.call("GET", "/v1/me", token=api.token("viewer"))).status == 200


async def test_guesses_of_tokens_are_slowed_down_by_source(tmp_path):
    async with running_api(tmp_path, rates=Rates()) as api:
        wrong = [(await api.call("GET", "/v1/me", token="efm-x-y")).status for _ in range(21)]
        assert wrong == [401] * 20 + [429]
        assert (await api.call("GET", "/v1/me")).status == 200


async def test_too_many_requests_of_a_source_are_refused_before_anything_is_looked_up(tmp_path):
    rates = Rates(source_at_once=2, source_per_s=0.001)
    async with running_api(tmp_path, rates=rates) as api:
        statuses = [(await api.call("GET", "/openapi.json")).status for _ in range(3)]
        assert statuses == [200, 200, 429]


async def test_the_use_of_a_token_is_noted_once_an_hour(api: RunningApi):
    text = await put_member(api.fleet.store, api.fleet.clock(), "77", MemberRole.VIEWER)
    token_id = "77".rjust(16, "0")
    noted = []
    for later_ms in (1, 1_000, 3_600_001):
        api.fleet.clock.unix_ms += later_ms
        assert (await api.call("GET", "/v1/me", token=text)).status == 200
        await api.logins.wait_noted()
        noted.append(api.fleet.store.member_tokens()[token_id].last_used_unix_ms)
    assert noted[0] == noted[1] > 0
    assert noted[2] == api.fleet.clock()
