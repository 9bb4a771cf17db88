"""A customer from sign-up to usage, with no operator; and what happens on the way."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from dataclasses import replace

from coordinator.api.customer.openapi import OPENAPI
from coordinator.core.members import SignUp
from coordinator.usage.key_uses import KeyUseWriter
from tests.support.customer_api import running_api
from tests.support.usage_fleet import record


async def wait_done(api, job, token):
    async with asyncio.timeout(20):
        while True:
            shown = await api.call("GET", f"/v1/imports/{job}", token=token)
            if shown.body["state"] != "running":
                return shown.body
            await asyncio.sleep(0.01)


async def test_a_customer_signs_up_imports_deploys_and_makes_a_key_without_an_operator(tmp_path):
    async with running_api(tmp_path, SignUp.OPEN) as api:
        made = await api.call(
            "POST", "/v1/sign-up", {"account": "initech", "email": "a@x.org"}, token=None
        )
        token = made.body["token"]
        begun = await api.call(
            "POST",
            "/v1/models:import",
            {"upstream": "hf://org/repo", "name": "initech/m"},
            token=token,
        )
        assert begun.status == 202, begun
        done = await wait_done(api, begun.body["id"], token)
        assert (done["state"], done["name"]) == ("done", "initech/m@1"), done
        shown = await api.call("GET", "/v1/models/m", token=token)
        assert (shown.body["name"], shown.body["own"]) == ("initech/m@1", True)
        body = {"name": "initech/chat", "model": "initech/m", "ttft_budget_ms": 80}
        deployed = await api.call("POST", "/v1/deployments", body, token=token)
        assert deployed.status == 201, deployed
        changed = await api.call("PATCH", "/v1/deployments/chat", {"strict": True}, token=token)
        assert (changed.status, changed.body["strict"]) == (200, True), changed
        back = await api.call("POST", "/v1/deployments/chat/rollback", {}, token=token)
        assert (back.status, back.body["strict"]) == (200, False), back
        key = await api.call("POST", "/v1/keys", {"deployments": ["initech/chat"]}, token=token)
        digest = hashlib.sha256(key.body["api_key"].encode()).digest()
        assert api.fleet.store.view().keys[digest].account_id == "initech"
        used = await api.call("GET", "/v1/usage", token=token)
        assert used.body == {"items": []}
        gone = await api.call("DELETE", "/v1/deployments/chat", token=token)
        assert gone.status == 204


async def test_an_import_uses_no_token_of_another_owner_and_downloads_no_more_than_it_may(api):
    others = {"upstream": "hf://org/repo", "name": "globex/m"}
    assert (await api.call("POST", "/v1/models:import", others)).status == 403
    assert api.fleet.upstream.fetches == []
    viewer = {"upstream": "hf://org/repo", "name": "acme/m"}
    refused = await api.call("POST", "/v1/models:import", viewer, token=api.token("viewer"))
    assert refused.status == 403
    wrong = await api.call("POST", "/v1/models:import", {"upstream": "x", "name": "acme/m"})
    assert wrong.status == 400


async def test_a_rotated_key_ends_by_itself_and_its_successor_has_the_same_scopes(api):
    scopes = {"endpoints": ["/v1/embeddings"], "origins": ["203.0.113.0/24"]}
    made = await api.call("POST", "/v1/keys", {**scopes, "requests_per_minute": 9})
    rotated = await api.call("POST", f"/v1/keys/{made.body['id']}/rotate", {"grace_s": 60})
    assert rotated.status == 201
    keys = {one.id: one for one in api.fleet.store.view().keys.values()}
    old, new = keys[made.body["id"]], keys[rotated.body["id"]]
    assert old.expires_unix_ms == rotated.body["old_ends_unix_ms"] == api.fleet.clock() + 60_000
    assert (new.endpoints, new.origins, new.limits) == (old.endpoints, old.origins, old.limits)
    assert new.expires_unix_ms == 0
    again = await api.call("POST", f"/v1/keys/{made.body['id']}/rotate", {})
    assert again.status == 409
    listed = (await api.call("GET", "/v1/keys")).body["items"]
    named = {one["id"]: (one["replaces"], one["replaced_by"]) for one in listed}
    assert named[old.id] == ("", new.id)
    assert named[new.id] == (old.id, "")
    api.fleet.clock.unix_ms += 60_000
    late = await api.call("POST", f"/v1/keys/{old.id}/rotate", {})
    assert late.status == 409


async def test_the_last_use_of_a_key_is_that_of_its_newest_record_to_the_minute(api):
    at_unix_ms = api.fleet.clock() - 90_000
    used = replace(record(), key_id="k-1", began_unix_ms=at_unix_ms)

    async def last_used() -> int:
        (key,) = (await api.call("GET", "/v1/keys")).body["items"]
        return key["last_used_unix_ms"]

    assert await last_used() == 0
    await api.fleet.usage_db.write(lambda one: KeyUseWriter().note(one, [used]))
    assert await last_used() == at_unix_ms - at_unix_ms % 60_000


async def test_the_document_describes_every_route_and_needs_no_token(api):
    described = await api.call("GET", "/openapi.json", token=None)
    assert (described.status, described.body["openapi"]) == (200, OPENAPI)
    keys = described.body["paths"]["/v1/keys"]
    assert set(keys) == {"get", "post"}
    assert keys["post"]["security"] == [{"token": []}]
    assert described.body["paths"]["/v1/sign-up"]["post"]["security"] == []


async def test_a_payment_event_is_taken_with_its_signature_and_its_own_body(tmp_path):
    taken = []

    async def event(payload: bytes, signature: str) -> None:
        taken.append((payload, signature))

    async with running_api(tmp_path, payment_event=event) as api:
        payload = json.dumps({"id": "evt_1"}).encode()
        signature = "t=1,v1=" + hmac.digest(b"s", payload, "sha256").hex()
        answer = await api.call(
            "POST",
            "/webhooks/payments",
            data=payload,
            token=None,
            headers={"Stripe-Signature": signature},
        )
        assert answer.status == 204
        assert taken == [(payload, signature)]
        huge = await api.call("POST", "/webhooks/payments", data=b"x" * 300_000, token=None)
        assert huge.status == 413
