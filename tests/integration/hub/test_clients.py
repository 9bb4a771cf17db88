"""Unmodified clients of the Hugging Face hub, as processes, against the registry."""

from __future__ import annotations

import hashlib
import json

import coordinator.core.hub_uploads
import coordinator.hub.write_routes
from tests.support.hub import GLOBEX, write_files
from tests.support.hub_client import HubClient
from tests.support.registry_cases import adapter_files, base_files

README = b"---\nlicense: apache-2.0\n---\n# A model\n"
SNAPSHOT = """
import sys
import huggingface_hub
print(huggingface_hub.snapshot_download(sys.argv[1], revision=sys.argv[2]))
"""
#: With chunks smaller than the file, whose arrival the client counts.
DOWNLOAD = """
import sys
from huggingface_hub import constants, hf_hub_download
constants.DOWNLOAD_CHUNK_SIZE = 16_384
hf_hub_download(sys.argv[1], sys.argv[2], local_dir=sys.argv[3])
"""


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_hf_upload_then_hf_download_then_snapshot_download(hub, tmp_path):
    files = base_files() | {"README.md": README}
    named = json.loads(files["config.json"]) | {"_name_or_path": "/home/me/model"}
    given = files | {"config.json": json.dumps(named).encode(), ".gitattributes": b"* text\n"}
    source = write_files(tmp_path / "model", given)
    done = await hub.hf("upload", "acme/small", str(source))
    assert done.code == 0, done.output
    got = tmp_path / "got"
    done = await hub.hf("download", "acme/small", "--local-dir", str(got))
    assert done.code == 0, done.output
    left = {path.name: path.read_bytes() for path in got.iterdir() if path.is_file()}
    assert json.loads(left.pop("config.json")) == json.loads(files.pop("config.json"))
    assert left == files
    shown = await hub.operations.repositories.show(hub.fleet.admin, "acme/small")
    (version,) = shown.versions
    assert (version.row.name, version.publication.licence) == ("acme/small@1", "apache-2.0")
    for revision in ("main", "1", version.revision):
        done = await hub.python(SNAPSHOT, "acme/small", revision)
        assert done.output.strip().endswith(version.revision), done.output


async def test_an_adapter_is_uploaded_for_the_base_that_it_names(hub, tmp_path):
    await_base = write_files(tmp_path / "base", base_files())
    assert (await hub.hf("upload", "acme/base", str(await_base))).code == 0
    files = adapter_files(base_model_name_or_path="acme/base")
    done = await hub.hf("upload", "acme/lora", str(write_files(tmp_path / "lora", files)))
    assert done.code == 0, done.output
    assert hub.fleet.store.view().adapters["acme/lora@1"].model == "acme/base@1"


async def test_an_adapter_whose_base_is_not_here_is_refused_with_what_to_do(hub, tmp_path):
    files = adapter_files(base_model_name_or_path="meta-llama/Llama-3.1-8B")
    done = await hub.hf("upload", "acme/lora", str(write_files(tmp_path / "lora", files)))
    assert done.code != 0
    assert "base_model_name_or_path" in done.output
    assert "acme/lora@1" not in hub.fleet.store.view().adapters


async def test_an_upload_that_was_killed_is_continued_by_another_client(hub, tmp_path):
    """What the first one had sent is not sent again."""
    files = base_files()
    async with HubClient(hub) as first:
        await first.send("acme/small", {"model.safetensors": files["model.safetensors"]})
    async with HubClient(hub) as other:
        asked = await other.batch("acme/small", files)
    missing = {one["oid"] for one in asked if "actions" in one}
    assert missing == {
        digest_of(data) for name, data in files.items() if name != "model.safetensors"
    }
    done = await hub.hf("upload", "acme/small", str(write_files(tmp_path / "model", files)))
    assert done.code == 0, done.output
    assert "acme/small@1" in hub.fleet.store.view().models


async def test_a_file_in_parts_is_continued_by_another_client_where_the_first_was_killed(
    hub, tmp_path, monkeypatch
):
    monkeypatch.setattr(coordinator.core.hub_uploads, "BASIC_BYTES", 4_000)
    monkeypatch.setattr(coordinator.core.hub_uploads, "PART_BYTES", 1_500)
    monkeypatch.setattr(coordinator.hub.write_routes, "PART_BYTES", 1_500)
    files = base_files()
    weights = files["model.safetensors"]
    async with HubClient(hub) as first:
        (asked,) = await first.batch("acme/small", {"model.safetensors": weights})
        header = asked["actions"]["upload"]["header"]
        assert header["chunk_size"] == "1500"
        status, _, _ = await first.ask("PUT", header["00002"], weights[1_500:3_000])
        assert status == 409
        status, _, _ = await first.ask("PUT", header["00001"], weights[:1_500])
        assert status == 200
    done = await hub.hf("upload", "acme/small", str(write_files(tmp_path / "model", files)))
    assert done.code == 0, done.output
    got = tmp_path / "got"
    done = await hub.hf("download", "acme/small", "model.safetensors", "--local-dir", str(got))
    assert (got / "model.safetensors").read_bytes() == weights


async def test_a_download_that_breaks_off_goes_on_by_range(hub, tmp_path):
    files = base_files(hidden=64)
    weights = files["model.safetensors"]
    async with HubClient(hub) as client:
        assert (await client.upload("acme/small", files))[0] == 200
    hub.catalogue.cut_at_bytes = len(weights) // 2
    arguments = ("acme/small", "model.safetensors", str(tmp_path / "got"))
    done = await hub.python(DOWNLOAD, *arguments)
    assert done.code == 0, done.output
    assert (tmp_path / "got" / "model.safetensors").read_bytes() == weights
    assert hub.catalogue.offsets[-2:] == [0, 2 * 16_384]


async def test_a_client_that_was_killed_is_sent_the_rest_by_range(hub):
    """huggingface_hub itself begins a file anew in a new process; curl and others go on."""
    files = base_files(hidden=64)
    weights = files["model.safetensors"]
    async with HubClient(hub) as client:
        assert (await client.upload("acme/small", files))[0] == 200
        path = "/acme/small/resolve/main/model.safetensors"
        for asked, first, last in (
            ("bytes=1000-", 1_000, len(weights) - 1),
            ("bytes=0-0", 0, 0),
            ("bytes=-5", len(weights) - 5, len(weights) - 1),
            (f"bytes=7-{10**9}", 7, len(weights) - 1),
        ):
            status, headers, body = await client.ask("GET", path, headers={"Range": asked})
            assert (status, body) == (206, weights[first : last + 1])
            assert headers["Content-Range"] == f"bytes {first}-{last}/{len(weights)}"
            assert headers["ETag"] == f'"{digest_of(weights)}"'
        status, headers, _ = await client.ask(
            "GET", path, headers={"Range": f"bytes={len(weights)}-"}
        )
        assert (status, headers["Content-Range"]) == (416, f"bytes */{len(weights)}")


async def test_another_accounts_repository_is_not_found_by_its_clients(hub, tmp_path):
    async with HubClient(hub) as client:
        assert (await client.upload("acme/small", base_files()))[0] == 200
    for repository in ("acme/small", "acme/none"):
        done = await hub.hf("download", repository, key=GLOBEX)
        assert done.code != 0
        assert "not found" in done.output.lower(), done.output
    done = await hub.hf("upload", "acme/small", str(tmp_path), key=GLOBEX)
    assert done.code != 0
    assert "publishes under globex/ only" in done.output, done.output


async def test_a_wrong_key_is_said_to_be_wrong(hub):
    done = await hub.hf("download", "acme/small", key="ef-wrong")
    assert done.code != 0
    assert "401" in done.output or "Invalid" in done.output, done.output


async def test_hf_upload_of_pickled_weights_is_refused_before_they_are_sent(hub, tmp_path):
    files = base_files() | {"pytorch_model.bin": b"\x80\x04\x95" + bytes(60)}
    done = await hub.hf("upload", "acme/small", str(write_files(tmp_path / "model", files)))
    assert done.code != 0
    assert "can hold code" in done.output, done.output
    assert "acme/small@1" not in hub.fleet.store.view().models


async def test_whoami_and_the_list_of_models(hub):
    assert "acme" in (await hub.hf("auth", "whoami")).output
