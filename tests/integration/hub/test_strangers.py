"""Strangers, other accounts and hostile requests at the hub's port."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest

import coordinator.hub.bodies
from coordinator.store import keys
from tests.support.hub import ACME, GLOBEX
from tests.support.hub_client import HubClient, lfs_file
from tests.support.registry_cases import base_files
from tests.support.stores import api_key
from tests.support.strangers import MALFORMED, MARK, talk

PRIVATE = [
    ("GET", "/api/models/acme/small"),
    ("GET", "/api/models/acme/small/revision/main"),
    ("GET", "/api/models/acme/small/tree/main"),
    ("GET", "/api/models/acme/small/refs"),
    ("POST", "/api/models/acme/small/paths-info/main"),
    ("GET", "/acme/small/resolve/main/config.json"),
    ("HEAD", "/acme/small/resolve/main/config.json"),
]
OTHERS_WRITES = [
    ("POST", "/api/models/acme/small/preupload/main"),
    ("POST", "/api/models/acme/small/commit/main"),
    ("POST", "/api/models/acme/small/branch/v2"),
    ("POST", "/acme/small.git/info/lfs/objects/batch"),
    ("POST", "/acme/small.git/info/lfs/objects/verify"),
]


PATHS_INFO = """
from huggingface_hub import HfApi
print(HfApi().get_paths_info("acme/small", ["config.json", "x"]))
"""


async def publish(hub) -> None:
    async with HubClient(hub) as client:
        assert (await client.upload("acme/small", base_files()))[0] == 200


@pytest.mark.parametrize(("method", "path"), [*PRIVATE, *OTHERS_WRITES])
async def test_who_has_no_key_is_told_nothing(hub, method, path):
    await publish(hub)
    async with HubClient(hub, "") as stranger, HubClient(hub, "wrong") as wrong:
        answers = [
            await client.ask(method, path.replace("small", name), {} if method == "POST" else None)
            for client in (stranger, wrong)
            for name in ("small", "none")
        ]
    assert {status for status, _, _ in answers} == {401}
    assert len({body for _, _, body in answers}) == 1
    assert answers[0][1]["X-Error-Message"] == "Invalid credentials in Authorization header"
    assert answers[0][1]["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), PRIVATE)
async def test_another_accounts_repository_is_like_none(hub, method, path):
    await publish(hub)
    async with HubClient(hub, GLOBEX) as other:
        body = {"paths": ["config.json"]} if method == "POST" else None
        found = await other.ask(method, path, body)
        none = await other.ask(method, path.replace("small", "none"), body)
    assert found[0] == none[0] == 404
    assert found[1]["X-Error-Code"] == "RepoNotFound"
    assert found[2].replace(b"small", b"none") == none[2]


@pytest.mark.parametrize(("method", "path"), OTHERS_WRITES)
async def test_another_accounts_repository_cannot_be_written(hub, method, path):
    await publish(hub)
    before = set(hub.fleet.store.view().models)
    async with HubClient(hub, GLOBEX) as other:
        status, _, _ = await other.ask(method, path, {"operation": "upload", "objects": []})
    assert (status, set(hub.fleet.store.view().models)) == (403, before)


async def test_the_operators_models_are_read_by_every_account_and_written_by_none(hub):
    async with HubClient(hub, GLOBEX) as client:
        status, _, body = await client.ask("GET", "/api/models/acme/m")
        assert (status, json.loads(body)["id"]) == (200, "acme/m")
        assert (await client.commit("acme/m", []))[0] == 403


async def test_a_key_of_single_deployments_opens_no_registry(hub):
    narrow = api_key("k-narrow", "acme", ("chat",))
    await hub.fleet.store.write(keys.create(narrow, hub.fleet.clock()))
    async with HubClient(hub, "k-narrow") as client:
        assert (await client.ask("GET", "/api/models/acme/m"))[0] == 403


async def test_an_expired_and_a_revoked_key_are_refused(hub):
    expired = replace(api_key("k-old"), expires_unix_ms=1)
    await hub.fleet.store.write(keys.create(expired, 0))
    await hub.fleet.store.write(keys.revoke(ACME))
    for key in ("k-old", ACME):
        async with HubClient(hub, key) as client:
            assert (await client.ask("GET", "/api/whoami-v2"))[0] == 401


async def test_wrong_keys_are_slowed_down_and_right_ones_are_not(hub):
    async with HubClient(hub, "wrong") as wrong, HubClient(hub) as right:
        seen = [(await wrong.ask("GET", "/api/whoami-v2"))[0] for _ in range(60)]
        assert seen[0] == 401
        assert seen[-1] == 429
        assert (await right.ask("GET", "/api/whoami-v2"))[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/acme/small/resolve/main/../../../etc/passwd",
        "/acme/small/resolve/main/%2e%2e/%2e%2e/etc/passwd",
        "/acme/small/resolve/main/..%2f..%2fcoordinator.db",
        "/acme/small/resolve/main//etc/passwd",
        "/acme/small/resolve/main/config.json%00",
        "/acme/small/resolve/%2e%2e%2f/config.json",
        "/acme/../small/resolve/main/config.json",
        "/api/models/acme/small/tree/main/..%2f..",
        "/datasets/acme/small/resolve/main/config.json",
        "/api/datasets/acme/small",
        "/gpt2/resolve/main/config.json",
        "/api/models/gpt2",
        "/uploads/x.y",
        "/" + "a" * 2_000,
    ],
)
async def test_no_path_leads_out_of_a_version(hub, path):
    await publish(hub)
    status = (await raw(hub, f"GET {path} HTTP/1.1".encode())).split(b" ")[1]
    assert status in (b"400", b"404", b"401", b"405")


async def raw(hub, line: bytes, *headers: bytes) -> bytes:
    lines = (line, b"host: x", b"authorization: Bearer " + ACME.encode(), *headers, b"", b"")
    return await talk(
        hub.listener.port, b"\r\n".join((*lines[:-2], b"connection: close", b"", b""))
    )


@pytest.mark.parametrize("sent", MALFORMED)
async def test_what_cannot_be_read_is_answered_in_our_words(hub, sent, caplog):
    with caplog.at_level(logging.INFO):
        answer = await talk(hub.listener.port, sent)
    assert answer.split(b" ")[1] in (b"400", b"431")
    assert MARK not in answer
    assert b"server:" not in answer.lower()
    assert not caplog.records


async def test_two_keys_in_one_request_are_refused(hub):
    line = b"GET /api/whoami-v2 HTTP/1.1"
    answer = await raw(hub, line, b"authorization: Bearer k-2")
    assert answer.split(b" ")[1] == b"400"


async def test_the_address_of_an_upload_is_good_for_nothing_else(hub):
    weights = base_files()["model.safetensors"]
    async with HubClient(hub) as client, HubClient(hub, "") as anybody:
        (asked,) = await client.batch("acme/small", {"model.safetensors": weights})
        href = asked["actions"]["upload"]["href"]
        payload, _, signature = href.rpartition("/")[2].partition(".")
        for forged in (
            href[:-2] + "AA",
            href.replace(payload, payload[:-3] + "AAA"),
            href.replace(signature, ""),
            f"{hub.endpoint}/uploads/{payload}",
        ):
            assert (await anybody.ask("PUT", forged, weights))[0] == 401
        assert (await anybody.ask("PUT", href, weights + b"x"))[0] == 400
        assert (await anybody.ask("PUT", href, b""))[0] == 400
        # It needs no key, as clients send none.
        assert (await anybody.ask("PUT", href, weights))[0] == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is empty"),
        (b"{}", "no key and value"),
        (b"[]", "no key and value"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"key": "file", "value": {}}', "does not begin with its header"),
        (b'{"key": "header", "value": {}}', "changes nothing"),
        (b'{"key": "header", "value": {"summary": 3}}', "changes nothing"),
        (b'{"key": "header", "value": {}}\n{"key": "header", "value": {}}', "two headers"),
        (b'{"key": "header", "value": {}}\n{"key": "evil", "value": {}}', "cannot"),
    ],
)
async def test_what_is_no_commit_is_refused(hub, body, says):
    async with HubClient(hub) as client:
        status, _, answer = await client.ask("POST", "/api/models/acme/small/commit/main", body)
    assert (status, says in json.loads(answer)["error"]) == (400, True), answer


async def test_a_commit_above_its_size_is_refused(hub, monkeypatch):
    monkeypatch.setattr(coordinator.hub.bodies, "MAX_COMMIT_BYTES", 10_000)
    operations = [lfs_file((f"f{index}.txt", b"x")) for index in range(200)]
    async with HubClient(hub) as client:
        assert (await client.commit("acme/small", operations))[0] == 413


async def test_a_body_that_stands_still_is_ended(hub, monkeypatch):
    monkeypatch.setattr(coordinator.hub.bodies, "UPLOAD_IDLE_S", 0.2)
    head = b"POST /api/models/acme/small/commit/main HTTP/1.1\r\nhost: x\r\n"
    key = b"authorization: Bearer " + ACME.encode() + b"\r\ncontent-length: 1000\r\n\r\n{"
    assert (await talk(hub.listener.port, head + key)).split(b" ")[1] == b"504"


async def test_pull_requests_and_other_kinds_of_repository_are_refused(hub):
    async with HubClient(hub) as client:
        path = "/api/models/acme/small/commit/main?create_pr=1"
        assert (await client.ask("POST", path, b""))[0] == 400
        body = {"name": "x", "organization": "acme", "type": "dataset"}
        assert (await client.ask("POST", "/api/repos/create", body))[0] == 400


async def test_a_missing_revision_and_a_missing_file_are_told_apart(hub):
    await publish(hub)
    async with HubClient(hub) as client:
        for path, code in (
            ("/acme/small/resolve/v9/config.json", "RevisionNotFound"),
            ("/acme/small/resolve/main/none.json", "EntryNotFound"),
            ("/api/models/acme/small/tree/main/none", "EntryNotFound"),
        ):
            status, headers, _ = await client.ask("GET", path)
            assert (status, headers["X-Error-Code"]) == (404, code)


async def test_a_tree_has_pages(hub, monkeypatch):
    await publish(hub)
    async with HubClient(hub) as client:
        path = "/api/models/acme/small/tree/main?recursive=true&limit=2"
        _, headers, first = await client.ask("GET", path)
        link = headers["Link"].partition(">")[0].lstrip("<")
        _, headers, rest = await client.ask("GET", link)
    names = [one["path"] for one in (*json.loads(first), *json.loads(rest))]
    assert names == sorted(base_files())
    assert "Link" not in headers


async def test_information_in_the_forms_that_clients_ask_for(hub):
    await publish(hub)
    async with HubClient(hub) as client:
        _, _, body = await client.ask("GET", "/api/models/acme/small?blobs=true")
        info = json.loads(body)
        assert all(len(one["lfs"]["sha256"]) == 64 for one in info["siblings"])
        _, _, body = await client.ask("GET", "/api/models/acme/small?expand=sha&expand=siblings")
        assert set(json.loads(body)) == {"_id", "id", "sha", "siblings"}
        _, _, body = await client.ask("GET", "/api/models/acme/small/refs")
        refs = json.loads(body)
        assert refs["branches"][0]["targetCommit"] == info["sha"]
        assert [one["name"] for one in refs["tags"]] == ["1"]
    done = await hub.python(PATHS_INFO)
    assert done.output.count("RepoFile(") == 1, done.output


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"paths": 3}', b'{"paths": {"a": 1}}'])
async def test_paths_that_cannot_be_read_are_refused(hub, body):
    await publish(hub)
    async with HubClient(hub) as client:
        path = "/api/models/acme/small/paths-info/main"
        headers = {"Content-Type": "application/json"}
        assert (await client.ask("POST", path, body, headers=headers))[0] == 400


async def test_a_body_above_its_size_is_refused_without_being_read(hub):
    async with HubClient(hub) as client:
        body = b"[" + b" " * 3 * 1024**2 + b"]"
        assert (await client.ask("POST", "/api/repos/create", body))[0] == 413
