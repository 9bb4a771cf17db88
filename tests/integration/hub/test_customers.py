"""A customer with a key of its own who wants what others have, or all there is."""

from __future__ import annotations

import hashlib

import coordinator.core.hub_uploads
import coordinator.hub.write_routes
from tests.support.hub import ACME, GLOBEX
from tests.support.hub_client import HubClient
from tests.support.registry_cases import base_files

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
