"""A customer with a key of its own who wants what others have, or all there is."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import logging
import time
from dataclasses import replace

import pytest

import coordinator.core.hub_uploads
import coordinator.hub.bodies
import coordinator.operations.registry_objects
import coordinator.operations.repositories
from coordinator.core.members import MemberRole
from coordinator.core.publications import Publication
from coordinator.store import keys, members
from protos.domain.object_names import ObjectKind
from tests.support.hub import ACME, GLOBEX
from tests.support.hub_client import HubClient
from tests.support.members import put_member
from tests.support.registry_cases import base_files
from tests.support.stores import api_key
from tests.support.strangers import talk
from tests.support.waiting import wait_until_async

SECRET = b"what only acme has" * 100
NOBODYS = SECRET[::-1]


async def send(hub, key: str, repository: str, data: bytes, sent: bytes):
    async with HubClient(hub, key) as client:
        (entry,) = await client.batch(repository, {"x": data})
        return await client.ask("PUT", entry["actions"]["upload"]["href"], sent)


async def test_the_answer_to_a_wrong_upload_does_not_tell_whether_another_has_the_file(hub):
    assert (await send(hub, ACME, "acme/a", SECRET, SECRET))[0] == 200
    for wrong in (lambda data: bytes(len(data)), lambda data: data[:-1]):
        seen = []
        for data in (SECRET, NOBODYS):
            status, _, body = await send(hub, GLOBEX, "globex/a", data, wrong(data))
            text = body.decode().replace(hashlib.sha256(data).hexdigest(), "DIGEST")
            seen.append((status, text))
        assert seen[0] == seen[1]
        assert seen[0][0] == 400


async def test_how_a_file_is_asked_for_does_not_tell_whether_another_has_it(hub, monkeypatch):
    monkeypatch.setattr(coordinator.core.hub_uploads, "BASIC_BYTES", 1_000)
    monkeypatch.setattr(coordinator.core.hub_uploads, "PART_BYTES", 1_000)
    assert (await send(hub, ACME, "acme/a", SECRET, SECRET))[0] == 200
    async with HubClient(hub, GLOBEX) as client:
        mine, others = await client.batch("globex/a", {"n": NOBODYS, "s": SECRET})
        parts = [one["actions"]["upload"]["header"] for one in (mine, others)]
        assert [sorted(one) for one in parts] == [["00001", "00002", "chunk_size"]] * 2


async def test_a_stored_file_of_another_is_sent_in_parts_and_then_may_be_named(hub, monkeypatch):
    monkeypatch.setattr(coordinator.core.hub_uploads, "BASIC_BYTES", 1_000)
    monkeypatch.setattr(coordinator.core.hub_uploads, "PART_BYTES", 1_000)
    assert (await send(hub, ACME, "acme/a", SECRET, SECRET))[0] == 200
    async with HubClient(hub, GLOBEX) as client:
        (entry,) = await client.batch("globex/a", {"s": SECRET})
        upload = entry["actions"]["upload"]
        for part, start in (("00001", 0), ("00002", 1_000)):
            data = SECRET[start : start + 1_000]
            assert (await client.ask("PUT", upload["header"][part], data))[0] == 200
        oid = hashlib.sha256(SECRET).hexdigest()
        assert (await client.ask("POST", upload["href"], {"oid": oid, "parts": []}))[0] == 200
        assert "actions" not in (await client.batch("globex/a", {"s": SECRET}))[0]
    assert hub.fleet.blobs is not None
    assert not list((hub.folder / "state").rglob("*.part"))


async def test_an_account_has_no_more_bytes_than_it_may(hub):
    hub.fleet.account_max_bytes = 1_000
    operations = hub.fleet.operations(hub.fleet.blobs)
    hub.catalogue._operations = operations
    assert (await send(hub, GLOBEX, "globex/a", b"1" * 600, b"1" * 600))[0] == 200
    status, _, body = await send(hub, GLOBEX, "globex/a", b"2" * 600, b"2" * 600)
    assert (status, b"account_max_bytes" in body) == (413, True)
    # The same again takes nothing, and what is another's limit is not this one's.
    assert (await send(hub, ACME, "acme/a", b"2" * 600, b"2" * 600))[0] == 200


async def test_what_was_collected_counts_no_more(hub):
    hub.fleet.account_max_bytes = 1_000
    hub.catalogue._operations = hub.fleet.operations(hub.fleet.blobs)
    assert (await send(hub, GLOBEX, "globex/a", b"1" * 600, b"1" * 600))[0] == 200
    (blob,) = [one for one in await hub.fleet.blobs.list_all() if one.size_bytes == 600]
    assert await hub.fleet.blobs.remove(blob, lambda: True)
    assert (await send(hub, GLOBEX, "globex/a", b"2" * 600, b"2" * 600))[0] == 200


async def test_versions_count_as_bytes_of_their_account(hub):
    files = base_files()
    hub.fleet.account_max_bytes = sum(map(len, files.values())) + 500
    hub.catalogue._operations = hub.fleet.operations(hub.fleet.blobs)
    async with HubClient(hub, GLOBEX) as client:
        assert (await client.upload("globex/small", files))[0] == 200
    status, _, _ = await send(hub, GLOBEX, "globex/a", b"1" * 600, b"1" * 600)
    assert status == 413


HEADER = b'{"key":"header","value":{"summary":"s"}}'


@pytest.mark.parametrize("body", [b"\n" * 3_000_000, HEADER + b"\n " * 3_000_000])
async def test_a_commit_of_empty_lines_is_refused_early(hub, body):
    async with HubClient(hub) as client:
        status, _, answer = await client.ask("POST", "/api/models/acme/a/commit/main", body)
    assert (status, b"empty lines" in answer) == (413, True)


@pytest.mark.parametrize("path", ["/api/models/acme/a/commit/main", "/api/repos/create"])
async def test_a_packed_body_is_not_unpacked(hub, path):
    async with HubClient(hub) as client:
        packed = gzip.compress(b"\n" * 30_000_000)
        status, _, answer = await client.ask(
            "POST", path, packed, headers={"Content-Encoding": "gzip"}
        )
    assert (status, b"Content-Encoding" in answer) == (400, True)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data; boundary=x", b"garbage"),
        ("multipart/form-data", b"garbage"),
        ("application/x-www-form-urlencoded; charset=nope", b"paths=%ff"),
        ("application/x-www-form-urlencoded", b"paths=\xff"),
        ("application/x-www-form-urlencoded", b"paths=a&" * 5_000),
        ("application/json", b"[" * 100_000),
        ("application/json", b'{"paths": {"a": 1}}'),
    ],
)
async def test_paths_in_a_form_that_is_none_are_no_fault_of_ours(hub, caplog, content_type, body):
    async with HubClient(hub) as client:
        assert (await client.upload("acme/small", base_files()))[0] == 200
        with caplog.at_level(logging.ERROR):
            status, _, _ = await client.ask(
                "POST",
                "/api/models/acme/small/paths-info/main",
                body,
                headers={"Content-Type": content_type},
            )
    assert status in (200, 400)
    assert not caplog.records


@pytest.mark.parametrize("host", [b"x:99999", b"", b"x\xff", b"x:y"])
async def test_a_host_that_cannot_be_read_is_no_fault_of_ours(hub, caplog, host):
    body = json.dumps({"operation": "upload", "objects": [{"oid": "a" * 64, "size": 1}]}).encode()
    lines = (
        b"POST /acme/small.git/info/lfs/objects/batch HTTP/1.1",
        b"host: " + host,
        b"authorization: Bearer " + ACME.encode(),
        b"content-length: %d" % len(body),
        b"connection: close",
        b"",
        body,
    )
    with caplog.at_level(logging.ERROR):
        answer = await talk(hub.listener.port, b"\r\n".join(lines))
    assert answer.split(b" ")[1] == b"400"
    assert not caplog.records


async def test_the_address_of_an_upload_ends_with_the_last_key_of_its_account(hub):
    async with HubClient(hub) as client:
        (entry,) = await client.batch("acme/a", {"x": SECRET})
        await hub.fleet.store.write(keys.revoke(ACME))
        status, _, _ = await client.ask("PUT", entry["actions"]["upload"]["href"], SECRET)
    assert status == 401


async def stuck_commit(hub, key: str) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", hub.listener.port)
    owner = {ACME: "acme", GLOBEX: "globex"}[key]
    writer.write(
        f"POST /api/models/{owner}/a/commit/main HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: 1000\r\n\r\n".encode()
    )
    await writer.drain()
    return writer


async def test_commits_that_stand_still_hold_up_no_other_account(hub):
    stuck = [await stuck_commit(hub, GLOBEX) for _ in range(6)]
    async with HubClient(hub) as client, asyncio.timeout(20):
        assert (await client.upload("acme/small", base_files()))[0] == 200
    for writer in stuck:
        writer.close()


async def test_an_upload_that_only_keeps_its_place_is_ended(hub, monkeypatch):
    now_mono_ms = [0.0]
    monkeypatch.setattr(coordinator.hub.bodies.clock, "now_mono_ms", lambda: now_mono_ms[0])
    async with HubClient(hub) as client:
        (entry,) = await client.batch("acme/a", {"x": SECRET})

        async def dripping():
            yield SECRET[:1]
            await wait_until_async(
                lambda: any((hub.folder / "state").rglob("*.part")), 20, "the upload to begin"
            )
            now_mono_ms[0] = 100_000.0
            yield SECRET[1:2]
            await asyncio.sleep(3_600)

        status, _, body = await client.ask("PUT", entry["actions"]["upload"]["href"], dripping())
    assert (status, b"too slow" in body) == (504, True)


async def test_a_file_counts_with_the_size_that_it_has(hub):
    """The address of an upload may be asked for with any size, before the file is sent."""
    hub.fleet.account_max_bytes = 1_000
    hub.catalogue._operations = hub.fleet.operations(hub.fleet.blobs)
    data = b"1" * 600
    body = {
        "operation": "upload",
        "objects": [{"oid": hashlib.sha256(data).hexdigest(), "size": 1}],
    }
    async with HubClient(hub, GLOBEX) as client:
        path = "/globex/a.git/info/lfs/objects/batch"
        _, _, answer = await client.ask("POST", path, body)
        href = json.loads(answer)["objects"][0]["actions"]["upload"]["href"]
        assert (await send(hub, GLOBEX, "globex/a", data, data))[0] == 200
        status, _, answer = await client.ask("PUT", href, b"1")
        assert (status, b"600 bytes" in answer) == (400, True)
    assert (await send(hub, GLOBEX, "globex/a", b"2" * 600, b"2" * 600))[0] == 413


DEEP = b"[" * 900 + b"]" * 900


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors.index.json", b'{"weight_map": {"a": %s}}'),
        ("config.json", b'{"architectures": %s}'),
        ("config.json", b'{"architectures": ["LlamaForCausalLM"], "rope_scaling": %s}'),
        ("generation_config.json", b'{"eos_token_id": %s}'),
        ("adapter_config.json", b'{"base_model_name_or_path": %s}'),
        ("model.safetensors", b'{"a": {"dtype": %s, "shape": [], "data_offsets": [0, 0]}}'),
    ],
)
async def test_files_of_many_levels_are_no_fault_of_ours(hub, caplog, name, content):
    data = content.replace(b"%s", DEEP)
    if name.endswith(".safetensors"):
        data = len(data).to_bytes(8, "little") + data
    with caplog.at_level(logging.ERROR):
        async with HubClient(hub) as client:
            status, _ = await client.upload("acme/small", base_files() | {name: data})
    # An adapter's configuration without weights waits for them.
    assert status == (200 if name == "adapter_config.json" else 400)
    assert "acme/small@1" not in hub.fleet.store.view().models
    assert not caplog.records


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/models/acme/a/preupload/main", b'{"files": [{"path": %s}]}'),
        ("/api/models/acme/a/commit/main", HEADER + b'\n{"key": %s, "value": {}}'),
        ("/api/models/acme/a/commit/main", HEADER + b'\n{"key": "file", "value": {"path": %s}}'),
        ("/acme/a.git/info/lfs/objects/batch", b'{"operation": "upload", "objects": [%s]}'),
        ("/acme/a.git/info/lfs/objects/verify", b'{"oid": %s, "size": 1}'),
        ("/api/repos/create", b'{"type": "model", "name": %s}'),
    ],
)
async def test_requests_of_many_levels_are_no_fault_of_ours(hub, caplog, path, body):
    with caplog.at_level(logging.ERROR):
        async with HubClient(hub) as client:
            status, _, _ = await client.ask("POST", path, body.replace(b"%s", DEEP))
    assert status == 400
    assert not caplog.records


async def test_a_list_of_a_full_registry_holds_up_no_other_request(hub, monkeypatch):
    view = hub.fleet.store.view()
    (model,) = [one for one in view.models.values() if one.name.startswith("acme/m@")]
    many = {f"acme/x{one}@1": replace(model, name=f"acme/x{one}@1") for one in range(10_000)}
    publications = {name: Publication(name, ObjectKind.MODEL, b"x" * 32, order=1) for name in many}
    monkeypatch.setattr(type(hub.fleet.store), "publications", lambda _self: publications)
    monkeypatch.setattr(coordinator.operations.registry_objects, "rows_of", lambda *_: many)
    monkeypatch.setattr(coordinator.operations.repositories, "rows_of", lambda *_: many)
    async with HubClient(hub) as client:
        began_s = time.process_time()
        status, _, body = await client.ask("GET", "/api/models")
        assert (status, len(json.loads(body))) == (200, 1_000)
        assert time.process_time() - began_s < 5.0
        began_s = time.process_time()
        for _ in range(20):
            assert (await client.ask("GET", "/api/models/acme/x5"))[0] == 200
        assert time.process_time() - began_s < 2.0


BATCH = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 3}]}


async def test_a_developers_token_uploads_as_its_account_and_a_viewers_only_reads(hub):
    store, now_unix_ms = hub.fleet.store, hub.fleet.clock()
    developer = await put_member(store, now_unix_ms, "1", MemberRole.DEVELOPER)
    viewer = await put_member(store, now_unix_ms, "2", MemberRole.VIEWER)
    async with HubClient(hub, developer) as client:
        assert (await client.upload("acme/small", base_files()))[0] == 200
        assert (await client.ask("POST", "/globex/small.git/info/lfs/objects/batch", BATCH))[
            0
        ] == 403
    async with HubClient(hub, viewer) as client:
        assert (await client.ask("GET", "/api/models/acme/small"))[0] == 200
        assert (await client.ask("POST", "/acme/other.git/info/lfs/objects/batch", BATCH))[0] == 403


async def test_a_key_for_inference_only_opens_no_registry(hub):
    limited = replace(api_key("k-9"), endpoints=("/v1/embeddings",))
    elsewhere = replace(api_key("k-8"), origins=("203.0.113.0/24",))
    for key in (limited, elsewhere):
        await hub.fleet.store.write(keys.create(key, 1))
        async with HubClient(hub, key.id) as client:
            assert (await client.ask("GET", "/api/models/acme/small"))[0] == 403


async def test_a_member_who_is_removed_while_its_commit_comes_publishes_nothing(hub):
    store = hub.fleet.store
    text = await put_member(store, hub.fleet.clock(), "5", MemberRole.DEVELOPER)
    header = {"key": "header", "value": {"summary": "x", "description": ""}}
    content = base64.b64encode(b"{}").decode()
    file = {
        "key": "file",
        "value": {"path": "config.json", "content": content, "encoding": "base64"},
    }
    body = b"\n".join(json.dumps(one).encode() for one in (header, file))
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.listener.port)
    writer.write(
        b"POST /api/models/acme/late/commit/main HTTP/1.1\r\nHost: x\r\n"
        b"Authorization: Bearer %b\r\n"
        b"Content-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%b"
        % (text.encode(), len(body), body[:-1])
    )
    async with HubClient(hub, ACME) as client:  # the head before was read
        assert (await client.ask("GET", "/api/models/acme/late"))[0] == 404
        await store.write(members.remove(store.members()["m-5"]))
        writer.write(body[-1:])
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
        writer.close()
        assert b" 401 " in answer
        assert (await client.ask("GET", "/api/models/acme/late"))[0] == 404
