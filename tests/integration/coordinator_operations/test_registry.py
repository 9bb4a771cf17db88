"""The registry's objects by who asks: accounts, operators, and what each may see and name."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from coordinator.blobs.folder import FolderStore
from coordinator.blobs.piece_digests import with_pieces
from coordinator.operations.actor import Actor
from coordinator.operations.registry_objects import NewObject
from coordinator.operations.verification import verify_files
from coordinator.store import accounts, deployments, publications
from coordinator.store.fact_types import FactType
from protos.domain.customers import Account
from protos.domain.errors import Conflict, Forbidden, InvalidRequest, NotFound, TooLarge
from protos.domain.object_names import ObjectKind
from protos.domain.pieces import PIECE_BYTES
from protos.domain.resources import ModelSource, Runtime
from tests.support.operations import actor
from tests.support.registry_cases import adapter_files, base_files
from tests.support.registry_doors import chunks_of, manifest_of, publish
from tests.support.stores import MODEL, deployment

ACME, GLOBEX = Actor.of_account("acme"), Actor.of_account("globex")
KIND = ObjectKind.MODEL
SECRET = {"README.md": b"# nobody else's"}


@pytest.fixture
async def two_accounts(fleet):
    await fleet.store.write(accounts.create(Account("globex")))


async def test_an_account_publishes_under_its_own_name_only(fleet, ops):
    made = await publish(ops, ACME, KIND, "acme/own@1", base_files())
    assert made.row.account_id == "acme"
    assert made.publication.published_by == "account/acme"
    with pytest.raises(Forbidden, match="not as globex/"):
        await publish(ops, ACME, KIND, "globex/own@1", base_files())


async def test_what_an_account_owns_is_not_there_for_another(fleet, ops, two_accounts):
    await publish(ops, ACME, KIND, "acme/own@1", base_files())
    assert await ops.registry.resolve(ACME, "acme/own", KIND) == "acme/own@1"
    assert await ops.registry.resolve(actor(), "acme/own", KIND) == "acme/own@1"
    for ask in (ops.registry.show, ops.registry.resolve, ops.registry.verify):
        with pytest.raises(NotFound) as refused:
            await ask(GLOBEX, "acme/own@1", KIND)
        assert "acme/own" not in refused.value.hint
    with pytest.raises(NotFound):
        await ops.registry.remove(GLOBEX, "acme/own@1", KIND)
    names = [one.row.name for one in await ops.registry.list_all(GLOBEX, KIND)]
    assert names == [MODEL.name], "what is the operators' is for everyone"


async def test_an_account_reads_what_is_the_operators_and_changes_none_of_it(fleet, ops):
    await publish(ops, actor(), KIND, "acme/shared@1", base_files())
    assert (await ops.registry.show(ACME, "acme/shared", KIND)).row.account_id == ""
    with pytest.raises(Forbidden, match="belongs to the operators"):
        await ops.registry.remove(ACME, "acme/shared@1", KIND)
    with pytest.raises(Conflict, match="'acme/shared' belongs to the operators"):
        await publish(ops, ACME, KIND, "acme/shared@2", base_files("two"))


async def test_a_digest_alone_gives_an_account_no_bytes_of_another(fleet, ops, two_accounts):
    files = base_files() | SECRET
    await publish(ops, ACME, KIND, "acme/own@1", files)
    digests = [one.sha256 for one in manifest_of(files)]
    assert await ops.models.find_missing(ACME, digests) == []
    assert await ops.models.find_missing(GLOBEX, digests) == digests
    assert {one.is_stored for one in await ops.models.progress(GLOBEX, digests)} == {False}
    stolen = NewObject(KIND, "globex/copy@1", manifest_of(files))
    with pytest.raises(InvalidRequest, match="4 files have not been uploaded"):
        await ops.registry.publish(GLOBEX, stolen)


async def test_an_account_that_sends_stored_bytes_may_name_them(fleet, ops, two_accounts):
    files = base_files()
    await publish(ops, ACME, KIND, "acme/own@1", files)
    data = files["model.safetensors"]
    sha256 = hashlib.sha256(data).digest()
    with pytest.raises(InvalidRequest, match="is not that of"):
        await ops.models.upload(GLOBEX, sha256, len(data), chunks_of(bytes(len(data))))
    with pytest.raises(Conflict):
        await ops.models.resume(GLOBEX, sha256, len(data), 10, chunks_of(data[10:]))
    assert await ops.models.find_missing(GLOBEX, [sha256]) == [sha256]
    made = await publish(ops, GLOBEX, KIND, "globex/copy@1", files)
    assert made.is_new


async def test_an_operator_publishes_for_an_account_that_exists(fleet, ops, two_accounts):
    made = await publish(ops, actor(), KIND, "globex/m@1", base_files(), account_id="globex")
    assert made.row.account_id == "globex"
    for account_id, name, error in (
        ("nobody", "nobody/m@1", NotFound),
        ("globex", "acme/m@1", Forbidden),
    ):
        with pytest.raises(error):
            await publish(ops, actor(), KIND, name, base_files(), account_id=account_id)


async def test_an_adapter_belongs_to_who_owns_its_base(fleet, ops, two_accounts):
    await publish(ops, ACME, KIND, "acme/base@1", base_files())
    with pytest.raises(Conflict, match="so its adapters do too"):
        await publish(ops, actor(), ObjectKind.ADAPTER, "acme/fr@1", adapter_files())
    with pytest.raises(NotFound):
        await publish(ops, GLOBEX, ObjectKind.ADAPTER, "globex/fr@1", adapter_files())
    made = await publish(ops, ACME, ObjectKind.ADAPTER, "acme/fr@1", adapter_files())
    assert made.row.account_id == "acme"


async def test_an_account_registers_no_external_model_and_does_nothing_else(fleet, ops):
    external = NewObject(
        KIND, "acme/ext@2", model_source=ModelSource.EXTERNAL, context_tokens=2_048
    )
    with pytest.raises(Forbidden):
        await ops.registry.publish(ACME, external)
    with pytest.raises(Forbidden, match=r"account/acme may not do node\.list"):
        await ops.nodes.list_all(ACME)
    assert (await fleet.notes())[-1][:2] == ("account/acme", "node.list")


async def test_a_model_from_before_publications_is_listed_and_imported_again(fleet, ops):
    await publish(ops, actor(), KIND, "acme/old@1", base_files())
    old = fleet.store.view().models["acme/old@1"]

    def forget(tx):
        tx.put(replace(old, swap_key=b""))
        tx.remove_fact(FactType.PUBLICATION, "acme/old@1")

    await fleet.store.write(forget)
    assert (await ops.registry.show(actor(), "acme/old", KIND)).is_latest
    again = await publish(ops, actor(), KIND, "acme/old@1", base_files())
    assert not again.is_new
    assert fleet.store.view().models["acme/old@1"].swap_key == old.swap_key
    with pytest.raises(Conflict, match="other content"):
        await publish(ops, actor(), KIND, "acme/old@1", base_files("other"))
    await fleet.store.write(forget)
    with pytest.raises(Conflict, match="belongs to another account"):
        await publish(ops, ACME, KIND, "acme/old@1", base_files())


async def test_a_runtime_that_a_deployment_uses_is_not_removed(fleet, ops):
    new = NewObject(ObjectKind.RUNTIME, "acme/fast@1", runtime=Runtime(""))
    await ops.registry.publish(actor(), new)
    uses = replace(deployment("quick"), runtime="acme/fast@1")
    await fleet.store.write(deployments.put(uses, (), create_only=True))
    with pytest.raises(Conflict, match="is used by deployment quick"):
        await ops.registry.remove(actor(), "acme/fast@1", ObjectKind.RUNTIME)
    assert (await ops.registry.show(actor(), "acme/fast", ObjectKind.RUNTIME)).used_by == (
        "deployment quick",
    )


async def test_a_blob_that_is_gone_is_said_by_verify(fleet, ops):
    await publish(ops, actor(), KIND, "acme/m2@1", base_files())
    sha256 = hashlib.sha256(base_files()["model.safetensors"]).digest()
    (stored,) = [one for one in await fleet.blobs.list_all() if one.sha256 == sha256]
    assert await fleet.blobs.remove(stored, lambda: True)
    done = await ops.registry.verify(actor(), "acme/m2", KIND)
    assert done.problems == {"model.safetensors": "is not stored"}


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ("MAX_VERSIONS", "has 1 versions, which are all it may"),
        ("MAX_OBJECTS", "the registry holds 1 versions"),
        ("MAX_ACCOUNT_NAMES", "'acme' has used 1 names"),
    ],
)
async def test_the_registry_has_limits(fleet, ops, monkeypatch, limit, says):
    await publish(ops, ACME, KIND, "acme/many@1", base_files())
    monkeypatch.setattr(publications, limit, 1)
    with pytest.raises(TooLarge, match=says):
        await publish(ops, ACME, KIND, "acme/many@2", base_files("two"))
    assert not (await publish(ops, ACME, KIND, "acme/many@1", base_files())).is_new


async def test_the_pieces_of_a_large_file_are_verified_too(tmp_path, monkeypatch):
    blobs = FolderStore.open(tmp_path / "blobs")
    data = b"x" * (PIECE_BYTES + 1)
    (file,) = manifest_of({"model.safetensors": data})
    await blobs.write(file.sha256, len(data), chunks_of(data))
    files = await with_pieces([file], blobs)
    assert await verify_files(files, blobs) == {}
    wrong = replace(files[0], pieces_sha256=b"p" * 32)
    assert await verify_files([wrong], blobs) == {
        "model.safetensors": "has other pieces than were published"
    }

    async def damaged(sha256):
        return bytes(64)

    monkeypatch.setattr(blobs, "piece_list", damaged)
    assert await verify_files(files, blobs) == {"model.safetensors": "has a damaged piece list"}
