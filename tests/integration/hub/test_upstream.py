"""Imports from another hub: what keeps to the protocol, and what does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.hub.upstream import UpstreamHub, UpstreamPlace, child_environment
from coordinator.operations.upstream import Progress, UpstreamRef
from coordinator.operations.upstream_imports import NewImport
from protos.domain.errors import EdgeForgeError, InvalidRequest, LinkDown, Overloaded
from tests.support.fake_hub import SHA, FakeHub, fake_hub
from tests.support.hub import write_files
from tests.support.operations import actor, operated_fleet
from tests.support.registry_cases import adapter_files, base_files
from tests.support.waiting import wait_until_async

REF = UpstreamRef("org/repo")
NEW = NewImport("hf://org/repo", "acme/up")
#: Answers at once if it is reached.
METADATA = "http://169.254.169.254/latest/meta-data/"


def upstream_at(endpoint: str, folder: Path, **fields: object) -> UpstreamHub:
    place = {"private_endpoint": True, "ca_file": "", "max_file_bytes": 10**6, "idle_s": 60.0}
    return UpstreamHub(UpstreamPlace(endpoint, **(place | fields)), folder)


@contextlib.asynccontextmanager
async def importing(folder: Path, hub: FakeHub, **fields: object) -> AsyncIterator[object]:
    async with operated_fleet(folder) as (fleet, _):
        assert fleet.blobs is not None
        fleet.upstream = upstream_at(hub.endpoint, folder / "upstream", **fields)
        yield fleet, fleet.operations(fleet.blobs)


async def refusal_of(folder: Path, hub: FakeHub, **fields: object) -> EdgeForgeError:
    """Return why an import is refused; nothing may be published then."""
    async with importing(folder, hub, **fields) as (fleet, operations):
        with pytest.raises(EdgeForgeError) as caught:
            await operations.upstream_imports.run(actor(), NEW.name, NEW)
        assert "acme/up@1" not in fleet.store.view().models
    return caught.value


async def test_a_model_is_imported_with_its_licence_and_without_what_no_engine_reads(tmp_path):
    files = base_files()
    named = json.loads(files["config.json"]) | {"_name_or_path": "/home/me/x"}
    more = {"config.json": json.dumps(named).encode(), ".gitattributes": b"x", "onnx/a.onnx": b"x"}
    seen: list[Progress] = []
    async with fake_hub(files | more | {"pytorch_model.bin": b"\x80pickle"}) as hub:
        async with importing(tmp_path, hub) as (_fleet, operations):
            done = await operations.upstream_imports.run(actor(), NEW.name, NEW, seen.append)
            assert done.object.row.name == "acme/up@1"
            assert done.object.publication.source == f"hf://org/repo@{SHA}"
            assert done.object.publication.licence == "mit"
            assert len(done.left_out) == 3
            assert {one.path for one in done.object.files} == set(files)
            assert not any((tmp_path / "upstream" / "downloads").iterdir())
        assert not {"pytorch_model.bin", "onnx/a.onnx"} & set(hub.downloads)
    assert [one.stage for one in seen][-1] == "checking"


async def test_an_adapter_finds_its_base_by_where_that_came_from(tmp_path):
    async with fake_hub(base_files()) as hub, importing(tmp_path, hub) as (_fleet, operations):
        await operations.upstream_imports.run(actor(), NEW.name, NEW)
        hub.files = adapter_files(base_model_name_or_path="org/repo")
        new = NewImport("hf://org/lora", "acme/lora@1")
        done = await operations.upstream_imports.run(actor(), new.name, new)
        assert done.object.row.model == "acme/up@1"
        hub.files = adapter_files(base_model_name_or_path="org/other")
        new = NewImport("hf://org/lora2", "acme/lora2@1")
        with pytest.raises(InvalidRequest, match="is no model of this registry"):
            await operations.upstream_imports.run(actor(), new.name, new)


@pytest.mark.parametrize(
    ("where", "target"),
    [
        ("listing", METADATA),
        ("listing", "https://10.0.0.1/x"),
        ("listing", "https://[::ffff:10.0.0.1]/x"),
        ("listing", "https://[fd00::1]/x"),
        ("file", METADATA),
        ("file", "http://127.0.0.1:1/x"),
        ("file", "https://localhost:1/x"),
        ("file", "https://100.64.0.1/x"),
        ("file", "file:///etc/passwd"),
    ],
)
async def test_a_redirect_to_a_private_address_is_refused(tmp_path, where, target):
    async with fake_hub(base_files()) as hub:
        if where == "listing":
            hub.redirect_listing = target
        else:
            hub.redirects["model.safetensors"] = target
        error = await refusal_of(tmp_path, hub)
    assert "private address" in error.message or "not HTTPS" in error.message, error


async def test_an_endpoint_at_a_private_address_is_refused_unless_the_configuration_allows_it(
    tmp_path,
):
    async with fake_hub(base_files()) as hub:
        error = await refusal_of(tmp_path, hub, private_endpoint=False)
        assert hub.downloads == []
        for name in ("https://127.0.0.1:1", "https://localhost:1"):
            upstream = upstream_at(name, tmp_path / "other", private_endpoint=False)
            with pytest.raises(InvalidRequest, match="private address"):
                await upstream.head(REF, "acme")
    assert "not HTTPS" in error.message


async def test_a_download_that_breaks_off_goes_on_in_another_process(tmp_path):
    files = base_files(hidden=64)
    weights = files["model.safetensors"]
    async with fake_hub(files) as hub, importing(tmp_path, hub) as (fleet, operations):
        hub.silent.add("model.safetensors")
        run = asyncio.ensure_future(operations.upstream_imports.run(actor(), NEW.name, NEW))
        await arrived(hub, "model.safetensors")
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run
        partial = next((tmp_path / "upstream" / "downloads").glob("*/.model.safetensors.partial"))
        partial.write_bytes(weights[:20_000])
        hub.silent.clear()
        await operations.upstream_imports.run(actor(), NEW.name, NEW)
        assert ("model.safetensors", "bytes=20000-") in hub.ranges
        assert "acme/up@1" in fleet.store.view().models


async def arrived(hub: FakeHub, name: str) -> None:
    await wait_until_async(lambda: name in hub.downloads, 30, f"a download of {name}")


async def test_other_bytes_on_the_second_range_request_are_not_imported(tmp_path):
    """The file is fetched once more from its first byte, and is right then."""
    files = base_files(hidden=64)
    weights = files["model.safetensors"]
    async with fake_hub(files) as hub, importing(tmp_path, hub) as (fleet, operations):
        hub.cuts["model.safetensors"] = 40_000
        hub.other_bytes["model.safetensors"] = bytes(len(weights))
        done = await operations.upstream_imports.run(actor(), NEW.name, NEW)
        stored = [one.sha256 for one in done.object.files if one.path == "model.safetensors"]
        got = [chunk async for chunk in fleet.blobs.read(stored[0])]
    assert b"".join(got) == weights


async def test_a_hub_that_never_sends_what_it_lists_is_refused(tmp_path):
    files = base_files()
    async with fake_hub(files) as hub:
        hub.wrong_bytes["model.safetensors"] = bytes(len(files["model.safetensors"]))
        error = await refusal_of(tmp_path, hub)
    assert "does not send the bytes that it lists" in error.message
    assert hub.downloads.count("model.safetensors") == 2


@pytest.mark.parametrize("size", [1, 100_000, 10**7, 0])
async def test_a_hub_that_lies_about_a_size_is_refused(tmp_path, size):
    async with fake_hub(base_files()) as hub:
        hub.listed_sizes["model.safetensors"] = size
        error = await refusal_of(tmp_path, hub)
    assert "bytes that it lists" in error.message or "is not allowed" in error.message


@pytest.mark.parametrize("what", ["model.safetensors", "listing"])
async def test_a_hub_that_sends_without_end_is_not_listened_to(tmp_path, what):
    async with fake_hub(base_files(), endless={what}) as hub:
        error = await refusal_of(tmp_path, hub)
        assert hub.sent_bytes < 100 * 2**20
    assert "bytes" in error.message


@pytest.mark.parametrize("what", ["model.safetensors", "listing"])
async def test_what_a_hub_packs_is_not_unpacked(tmp_path, what):
    async with fake_hub(base_files(), packed={what}) as hub:
        error = await refusal_of(tmp_path, hub)
    assert "packs what it sends" in error.message


async def test_a_file_without_a_digest_in_the_listing_is_refused(tmp_path):
    async with fake_hub(base_files(), unlisted={"config.json"}) as hub:
        error = await refusal_of(tmp_path, hub)
        assert hub.downloads == []
    assert "lists no digest of config.json" in error.message


async def test_a_hub_that_stands_still_is_given_up(tmp_path):
    async with fake_hub(base_files()) as hub:
        hub.silent.add("model.safetensors")
        error = await refusal_of(tmp_path, hub, idle_s=1.0)
    assert isinstance(error, LinkDown)
    assert "sent nothing" in error.message


async def test_a_name_that_no_import_keeps_is_never_asked_for(tmp_path):
    names = ["../evil.json", "/etc/evil.json", "a\0b.json", "x" * 300 + ".json", "evil.py", "x.pkl"]
    async with fake_hub(base_files(), extra_names=names) as hub:
        async with importing(tmp_path, hub) as (_, operations):
            done = await operations.upstream_imports.run(actor(), NEW.name, NEW)
        assert set(hub.downloads) == set(base_files())
    assert len(done.left_out) == len(names)


async def test_10000_names_and_weights_in_pickle_are_refused_before_a_download(tmp_path):
    for number, hub_files in enumerate(
        (
            {"config.json": b"{}", "pytorch_model.bin": b"x"},
            base_files() | {f"f{index}.txt": b"x" for index in range(2_000)},
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with fake_hub(hub_files) as hub:
            error = await refusal_of(folder, hub)
            assert hub.downloads == []
        assert "no model.safetensors" in error.message or "more than 1000" in error.message


async def test_a_token_is_kept_for_its_owner_only_and_is_in_no_argument(tmp_path):
    async with (
        fake_hub(base_files(), token="hf_secret") as hub,
        importing(tmp_path, hub) as (_, operations),
    ):
        imports = operations.upstream_imports
        with pytest.raises(InvalidRequest, match="gated"):
            await imports.run(actor(), NEW.name, NEW)
        await imports.set_token(actor(), "acme", "hf_secret")
        other = NewImport("hf://org/repo", "globex/up")
        with pytest.raises(InvalidRequest, match="gated"):
            await imports.run(actor(), other.name, other)
        await imports.run(actor(), NEW.name, NEW)
        path = tmp_path / "upstream" / "tokens" / "acme"
        assert oct(path.stat().st_mode)[-3:] == "600"
        assert oct(path.parent.stat().st_mode)[-3:] == "700"
        await imports.set_token(actor(), "acme", "")
        assert not path.exists()
        for wrong in ("a b\nc", "x" * 1_000, "\x00"):
            with pytest.raises(InvalidRequest):
                await imports.set_token(actor(), "acme", wrong)


async def test_the_same_import_runs_once_at_a_time(tmp_path):
    async with fake_hub(base_files()) as hub:
        hub.silent.add("model.safetensors")
        upstream = upstream_at(hub.endpoint, tmp_path / "upstream", idle_s=2.0)

        async def fetch() -> None:
            async with upstream.fetched(REF, "acme", lambda _: None):
                pass

        first = asyncio.ensure_future(fetch())
        await arrived(hub, "model.safetensors")
        with pytest.raises(Overloaded, match="already"):
            await fetch()
        with pytest.raises(LinkDown):
            await first


@pytest.mark.parametrize(
    "text", ["", "hf://x", "hf://a/b/c", "hf://../b", "hf://a/b@..", "hf://a/b@x y", "http://a/b"]
)
async def test_what_names_no_repository_is_refused(tmp_path, text):
    async with operated_fleet(tmp_path) as (_, operations):
        with pytest.raises(EdgeForgeError):
            await operations.upstream_imports.run(actor(), "acme/x", NewImport(text, "acme/x"))


def test_no_hub_is_asked_through_the_environments_proxy(monkeypatch):
    """The child has an environment of its own."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    place = UpstreamPlace("https://hub.example", False, "", 1)
    assert not {name for name in child_environment(place, Path("/x")) if "PROXY" in name.upper()}
    assert os.environ["HTTPS_PROXY"]


async def test_a_download_that_nobody_continues_for_a_week_is_deleted(tmp_path):
    stale, fresh = (tmp_path / "upstream" / "downloads" / name for name in ("stale", "fresh"))
    for folder in (stale, fresh):
        write_files(folder, {".model.safetensors.partial": b"x"})
    os.utime(stale, (1, 1))
    async with fake_hub(base_files()) as hub:
        upstream = upstream_at(hub.endpoint, tmp_path / "upstream")
        async with upstream.fetched(REF, "acme", lambda _: None) as snapshot:
            assert {file.path for file in snapshot.files} == set(base_files())
    assert (stale.exists(), fresh.exists()) == (False, True)
