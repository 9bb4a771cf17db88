"""What no object may hold, through the hub's door: the same cases as through administration."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json

import pytest

from tests.support.hub import write_files
from tests.support.hub_client import HubClient, lfs_file
from tests.support.registry_cases import (
    ADAPTER_CASES,
    MODEL_CASES,
    Case,
    adapter_files,
    base_files,
)

#: Commits of these files are not refused but wait for the rest of an object.
UNFINISHED = ("no weights", "no configuration")
#: The client's own limits forbid more files than one request may name.
MANY = "10,000 files"


def held(hub) -> set[str]:
    view = hub.fleet.store.view()
    return {name for name in (*view.models, *view.adapters) if name.startswith("acme/bad@")}


@pytest.mark.parametrize(
    "case",
    [one for one in MODEL_CASES if one.name not in (*UNFINISHED, MANY)],
    ids=lambda c: c.name,
)
async def test_a_model_is_refused_at_commit(hub, case: Case):
    async with HubClient(hub) as client:
        status, answer = await client.upload("acme/bad", case.files())
    assert status == 400, answer
    assert case.says in answer["error"]
    assert held(hub) == set()


@pytest.mark.parametrize(
    "case",
    [one for one in ADAPTER_CASES if one.name not in (*UNFINISHED, MANY)],
    ids=lambda c: c.name,
)
async def test_an_adapter_is_refused_at_commit(hub, case: Case):
    async with HubClient(hub) as client:
        assert (await client.upload("acme/base", base_files()))[0] == 200
        files = case.files()
        if "adapter_config.json" in files:
            files["adapter_config.json"] = with_base(files["adapter_config.json"])
        status, answer = await client.upload("acme/bad", files)
    assert status == 400, answer
    assert case.says in answer["error"]
    assert held(hub) == set()


def with_base(config: bytes) -> bytes:
    """Return an adapter's configuration that names the base of these tests."""
    return json.dumps(json.loads(config) | {"base_model_name_or_path": "acme/base"}).encode()


async def test_10000_files_are_refused(hub):
    files = base_files()
    operations = list(map(lfs_file, files.items()))
    extra = [lfs_file((f"f{index}.txt", b"x")) for index in range(10_000)]
    async with HubClient(hub) as client:
        await client.send("acme/bad", files)
        status, answer = await client.commit("acme/bad", operations + extra)
    assert (status, held(hub)) == (413, set())
    assert "at most 2000 operations" in answer["error"]


@pytest.mark.parametrize("leave_out", ["model.safetensors", "config.json"])
async def test_a_commit_without_a_part_of_the_object_waits_for_it(hub, leave_out):
    files = base_files()
    rest = {leave_out: files.pop(leave_out)}
    async with HubClient(hub) as client:
        status, answer = await client.upload("acme/bad", files)
        assert (status, held(hub)) == (200, set())
        assert leave_out in answer["hookOutput"]
        status, answer = await client.upload("acme/bad", rest)
    assert (status, held(hub)) == (200, {"acme/bad@1"}), answer


async def test_same_size_wrong_bytes_are_refused_and_not_kept(hub):
    files = base_files()
    weights = files["model.safetensors"]
    async with HubClient(hub) as client:
        (asked,) = await client.batch("acme/bad", {"model.safetensors": weights})
        href = asked["actions"]["upload"]["href"]
        status, _, answer = await client.ask("PUT", href, weights[:-1] + b"\xff")
        assert status == 400, answer
        await client.send("acme/bad", {name: files[name] for name in files if "json" in name})
        status, answer = await client.commit("acme/bad", list(map(lfs_file, files.items())))
    assert (status, held(hub)) == (400, set())
    assert "has not been uploaded" in answer["error"]


async def test_a_truncated_upload_is_refused(hub):
    weights = base_files()["model.safetensors"]
    async with HubClient(hub) as client:
        (asked,) = await client.batch("acme/bad", {"model.safetensors": weights})
        href = asked["actions"]["upload"]["href"]
        status, _, _ = await client.ask("PUT", href, weights[:-10])
        assert status == 400
        (asked,) = await client.batch("acme/bad", {"model.safetensors": weights})
    assert "actions" in asked


async def test_two_commits_of_one_version_have_one_winner(hub):
    one, other = base_files("one"), base_files("other")
    async with HubClient(hub) as client:
        await client.send("acme/bad", one)
        await client.send("acme/bad", other)
        answers = await asyncio.gather(
            *(
                client.commit("acme/bad", list(map(lfs_file, files.items())), "v1")
                for files in (one, other)
            )
        )
    assert sorted(status for status, _ in answers) == [200, 409]
    assert held(hub) == {"acme/bad@v1"}


async def test_a_published_version_never_changes(hub):
    async with HubClient(hub) as client:
        assert (await client.upload("acme/bad", base_files("one"), "v1"))[0] == 200
        status, answer = await client.upload("acme/bad", base_files("two"), "v1")
        assert (status, "never changes" in answer["error"]) == (409, True)
        status, _ = await client.upload("acme/bad", base_files("two"))
        assert (status, held(hub)) == (200, {"acme/bad@v1", "acme/bad@1"})
        status, _ = await client.upload("acme/bad", base_files("two"))
        assert (status, held(hub)) == (200, {"acme/bad@v1", "acme/bad@1"})


async def test_a_commit_behind_another_parent_is_refused(hub):
    async with HubClient(hub) as client:
        status, first = await client.upload("acme/bad", base_files("one"))
        assert (await client.upload("acme/bad", base_files("two")))[0] == 200
        status, answer = await client.upload(
            "acme/bad", base_files("three"), parentCommit=first["commitOid"]
        )
    assert (status, held(hub)) == (409, {"acme/bad@1", "acme/bad@2"}), answer


async def test_a_small_file_may_be_inside_the_commit(hub):
    files = base_files()
    config = files.pop("config.json")
    inline = {"path": "config.json", "content": base64.b64encode(config).decode()}
    async with HubClient(hub) as client:
        await client.send("acme/bad", files)
        operations = [{"key": "file", "value": inline}, *map(lfs_file, files.items())]
        status, answer = await client.commit("acme/bad", operations)
    assert (status, held(hub)) == (200, {"acme/bad@1"}), answer


async def test_knowing_the_digest_of_anothers_file_is_no_way_to_read_it(hub):
    secret = base_files("secret")
    async with HubClient(hub) as owner:
        assert (await owner.upload("acme/secret", secret))[0] == 200
    async with HubClient(hub, "k-2") as thief:
        for one in await thief.batch("globex/bad", secret):
            assert "actions" in one
        status, answer = await thief.commit("globex/bad", list(map(lfs_file, secret.items())))
        assert (status, "has not been uploaded" in answer["error"]) == (400, True)
        # Who has the bytes may publish them.
        assert (await thief.upload("globex/good", secret))[0] == 200
    weights = secret["model.safetensors"]
    stored = await hub.catalogue.size_bytes(hashlib.sha256(weights).digest())
    assert stored == len(weights)


async def test_hf_upload_shows_why_a_model_is_refused(hub, tmp_path):
    source = write_files(tmp_path / "model", base_files(architectures=["Evil"]))
    done = await hub.hf("upload", "acme/bad", str(source))
    assert done.code != 0
    assert "is not served" in done.output, done.output


async def test_a_base_of_another_account_is_no_base(hub):
    async with HubClient(hub) as owner:
        assert (await owner.upload("acme/base", base_files()))[0] == 200
    files = adapter_files(base_model_name_or_path="acme/base")
    async with HubClient(hub, "k-2") as other:
        status, answer = await other.upload("globex/lora", files)
    assert (status, "there is no model" in answer["error"]) == (400, True)
