"""The registry over gRPC: what may be published, and everything that may not."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from coordinator.core.operators import Role
from coordinator.store import accounts
from protos.domain.customers import Account
from protos.domain.errors import Conflict, InvalidRequest, NotFound
from protos.domain.object_names import ObjectKind
from protos.v1 import admin_pb2, registry_pb2, registry_pb2_grpc, resources_pb2
from protos.v1.admin_pb2_grpc import AdminStub
from tests.support.operator_listeners import failure_of
from tests.support.registry_cases import (
    ADAPTER_CASES,
    MODEL_CASES,
    RANK,
    adapter_files,
    adapter_tensors,
    base_files,
)
from tests.support.registry_doors import (
    BASE,
    WIRE_KINDS,
    publish_over_grpc,
    upload_messages,
)

MODEL, ADAPTER, RUNTIME = ObjectKind.MODEL, ObjectKind.ADAPTER, ObjectKind.RUNTIME


@pytest.fixture
async def registry(listeners):
    async with listeners.operator_channel() as channel:
        yield registry_pb2_grpc.RegistryStub(channel)


@pytest.fixture
async def base(registry):
    """The base that adapters are for."""
    return await publish_over_grpc(registry, MODEL, BASE, base_files())


def asked(kind, ref):
    return registry_pb2.ObjectRequest(kind=WIRE_KINDS[kind], ref=ref)


async def names_of(registry, kind):
    request = registry_pb2.ListObjectsRequest(kind=WIRE_KINDS[kind])
    return [one.name for one in (await registry.ListObjects(request)).objects]


@pytest.mark.parametrize("case", MODEL_CASES, ids=lambda case: case.name)
async def test_a_model_that_may_not_be_served_is_refused(registry, case):
    error = await failure_of(publish_over_grpc(registry, MODEL, "acme/bad@1", case.files()))
    assert type(error) is InvalidRequest
    assert case.says in str(error)
    assert await names_of(registry, MODEL) == []


@pytest.mark.parametrize("case", ADAPTER_CASES, ids=lambda case: case.name)
async def test_an_adapter_that_its_base_would_not_use_wholly_is_refused(registry, base, case):
    error = await failure_of(
        publish_over_grpc(registry, ADAPTER, "acme/bad@1", case.files(), base=BASE)
    )
    assert type(error) is InvalidRequest
    assert case.says in str(error)
    assert await names_of(registry, ADAPTER) == []


async def test_a_model_is_published_shown_and_found_by_its_latest_version(registry, listeners):
    card = b"---\nlicense: apache-2.0\n---\n# A base\n"
    files = base_files() | {"README.md": card}
    made = await publish_over_grpc(registry, MODEL, BASE, files, source="hf://acme/base@main")
    assert (made.is_new, made.is_latest, made.name) == (True, True, BASE)
    assert made.revision == made.model.manifest_sha256.hex()[:40]
    assert (made.licence, made.source) == ("apache-2.0", "hf://acme/base@main")
    assert made.published_by == "operator/ana"
    assert made.published_unix_ms == listeners.clock()
    assert len(made.model.swap_key) == 32
    newer = await publish_over_grpc(registry, MODEL, "acme/base@0.9", base_files("newer"))
    assert newer.is_latest, "the order of publication, not of numbers"
    shown = await registry.ShowObject(asked(MODEL, "acme/base@latest"))
    assert shown.name == "acme/base@0.9"
    assert {file.path for file in shown.files} == set(base_files())
    assert (await registry.Resolve(asked(MODEL, "acme/base"))).name == "acme/base@0.9"
    assert (await registry.Resolve(asked(MODEL, BASE))).name == BASE
    assert await names_of(registry, MODEL) == ["acme/base@0.9", BASE]
    error = await failure_of(registry.Resolve(asked(MODEL, "acme/none")))
    assert type(error) is NotFound


async def test_fine_tunes_of_one_base_share_its_swap_key(registry):
    first = await publish_over_grpc(registry, MODEL, "acme/a@1", base_files("a"))
    second = await publish_over_grpc(
        registry, MODEL, "acme/b@1", base_files("b", transformers_version="5.1.0")
    )
    other = await publish_over_grpc(registry, MODEL, "acme/c@1", base_files("c", vocab_size=65))
    assert first.model.swap_key == second.model.swap_key
    assert first.model.swap_key != other.model.swap_key
    assert first.revision != second.revision


async def test_an_adapter_is_published_for_its_base_and_is_a_row_of_the_table(
    registry, base, listeners
):
    files = adapter_files() | {"tokenizer_config.json": b"{}", "README.md": b"# one"}
    made = await publish_over_grpc(registry, ADAPTER, "acme/fr@1", files, base="acme/base")
    assert (made.adapter.model, made.adapter.rank) == (BASE, RANK)
    row = listeners.store.view().adapters["acme/fr@1"]
    assert row.weights_bytes == len(files["adapter_model.safetensors"])
    assert {file.path for file in listeners.store.manifest("acme/fr@1")} == set(files)


async def test_a_rank_pattern_is_what_a_modules_tensors_are_checked_by(registry, base):
    tensors = {
        **adapter_tensors(modules=("q_proj",)),
        **adapter_tensors(rank=8, modules=("v_proj",)),
    }
    files = adapter_files(tensors, rank_pattern={"v_proj": 8})
    made = await publish_over_grpc(registry, ADAPTER, "acme/fr@1", files, base=BASE)
    assert made.adapter.rank == 8


async def test_a_runtime_is_published_and_shown(registry):
    runtime = resources_pb2.Runtime(
        engine_kind="vllm",
        version_constraint=">=0.32, <0.33",
        args=["--enable-sleep-mode", "--max-num-batched-tokens=4096"],
        load_format="ipc_cache",
        accelerators=["cuda"],
    )
    request = registry_pb2.PublishRequest(
        kind=WIRE_KINDS[RUNTIME], name="acme/fast@1", runtime=runtime
    )
    made = await registry.Publish(request)
    assert len(made.revision) == 40
    shown = (await registry.ShowObject(asked(RUNTIME, "acme/fast"))).runtime
    assert list(shown.args) == list(runtime.args)
    assert shown.version_constraint == "<0.33,>=0.32"


async def test_two_uploads_of_one_version_have_one_winner_and_the_loser_is_told(registry):
    contents = [base_files(seed) for seed in ("first", "second")]
    for files in contents:
        for data in files.values():
            await registry.Upload(upload_messages(data))
    outcomes = await asyncio.gather(
        *(publish_over_grpc(registry, MODEL, BASE, files) for files in contents),
        return_exceptions=True,
    )
    won = [one for one in outcomes if not isinstance(one, BaseException)]
    assert len(won) == 1
    again = await failure_of(
        publish_over_grpc(registry, MODEL, BASE, contents[outcomes.index(won[0]) - 1])
    )
    assert type(again) is Conflict
    assert "was published with other content by operator/ana" in again.message
    assert not again.retryable


async def test_two_uploads_of_the_same_content_are_both_fine(registry):
    files = base_files()
    made = await asyncio.gather(
        *(publish_over_grpc(registry, MODEL, BASE, files) for _ in range(2))
    )
    assert sorted(one.is_new for one in made) == [False, True]
    assert made[0].revision == made[1].revision


async def test_an_interrupted_upload_is_continued_by_another_client(registry, listeners):
    data = base_files()["model.safetensors"] * 20
    sha256 = hashlib.sha256(data).digest()
    half = 120_000
    part = await registry.Upload(upload_messages(data, 0, half))
    assert part.received_bytes == half
    async with listeners.channel(listeners.admin_port, *await another(listeners)) as channel:
        other = registry_pb2_grpc.RegistryStub(channel)
        (found,) = (
            await other.FindUploads(registry_pb2.FindUploadsRequest(sha256=[sha256]))
        ).uploads
        assert (found.received_bytes, found.is_stored) == (half, False)
        error = await failure_of(other.Upload(upload_messages(data, half + 1)))
        assert type(error) is Conflict
        assert (await other.Upload(upload_messages(data, half))).received_bytes == len(data)
        (found,) = (
            await other.FindUploads(registry_pb2.FindUploadsRequest(sha256=[sha256]))
        ).uploads
    assert (found.received_bytes, found.is_stored) == (len(data), True)


async def another(listeners):
    return await listeners.admit("bo", Role.OPERATOR)


async def test_bytes_of_the_same_size_that_are_not_the_files_are_refused(registry):
    data = base_files()["model.safetensors"]
    wrong = bytes([data[-1] ^ 1]).join((data[:-1], b""))
    error = await failure_of(
        registry.Upload(upload_messages(wrong, sha256=hashlib.sha256(data).digest()))
    )
    assert type(error) is InvalidRequest
    (found,) = (
        await registry.FindUploads(
            registry_pb2.FindUploadsRequest(sha256=[hashlib.sha256(data).digest()])
        )
    ).uploads
    assert (found.received_bytes, found.is_stored) == (0, False)


async def test_what_is_used_is_not_removed_and_its_users_are_named(registry, base, listeners):
    await publish_over_grpc(registry, ADAPTER, "acme/fr@1", adapter_files(), base=BASE)
    error = await failure_of(registry.RemoveObject(asked(MODEL, BASE)))
    assert type(error) is Conflict
    assert "is used by adapter acme/fr@1" in error.message
    await listeners.store.write(accounts.create(Account("acme")))
    async with listeners.operator_channel() as channel:
        admin = AdminStub(channel)
        await admin.ApplyDeployment(
            admin_pb2.ApplyDeploymentRequest(
                deployment=resources_pb2.Deployment(
                    name="chat",
                    account_id="acme",
                    model=BASE,
                    ttft_budget_ms=80,
                    sla_tier=resources_pb2.SLA_TIER_REALTIME,
                )
            )
        )
    await registry.RemoveObject(asked(ADAPTER, "acme/fr@1"))
    assert "acme/fr@1" not in listeners.store.view().adapters
    assert not listeners.store.manifest("acme/fr@1")
    error = await failure_of(registry.RemoveObject(asked(MODEL, BASE)))
    assert "is used by deployment chat" in error.message


async def test_a_removed_name_is_not_used_again_for_other_content(registry):
    await publish_over_grpc(registry, MODEL, BASE, base_files())
    await registry.RemoveObject(asked(MODEL, BASE))
    assert type(await failure_of(registry.ShowObject(asked(MODEL, BASE)))) is NotFound
    error = await failure_of(publish_over_grpc(registry, MODEL, BASE, base_files("other")))
    assert type(error) is Conflict
    assert "has been removed since" in error.message
    assert (await publish_over_grpc(registry, MODEL, BASE, base_files())).is_new


async def test_removal_asks_for_a_version(registry):
    await publish_over_grpc(registry, MODEL, BASE, base_files())
    for ref in ("acme/base", "acme/base@latest"):
        assert type(await failure_of(registry.RemoveObject(asked(MODEL, ref)))) is InvalidRequest
    assert await names_of(registry, MODEL) == [BASE]


async def test_a_name_is_of_one_kind(registry, base):
    error = await failure_of(
        publish_over_grpc(registry, ADAPTER, "acme/base@2", adapter_files(), base=BASE)
    )
    assert type(error) is Conflict
    assert "is the name of a model" in error.message


@pytest.mark.parametrize("version", ["latest", "main"])
async def test_a_word_for_the_latest_version_is_no_version(registry, version):
    error = await failure_of(
        publish_over_grpc(registry, MODEL, f"acme/base@{version}", base_files())
    )
    assert type(error) is InvalidRequest


async def test_verify_finds_a_byte_that_changed_on_disk(registry, listeners, base):
    right = await registry.VerifyObject(asked(MODEL, "acme/base"))
    assert (right.name, right.files, list(right.problems)) == (BASE, 3, [])
    data = base_files()["model.safetensors"]
    async with listeners.blobs.local_copy(hashlib.sha256(data).digest()) as path:
        path.chmod(0o600)
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    wrong = await registry.VerifyObject(asked(MODEL, BASE))
    assert [(one.path, one.problem) for one in wrong.problems] == [
        ("model.safetensors", "has other bytes than were published")
    ]


async def test_an_adapter_is_ported_to_a_base_of_the_same_shape_with_its_lineage(registry, base):
    await publish_over_grpc(registry, ADAPTER, "acme/fr@1", adapter_files(), base=BASE)
    await publish_over_grpc(registry, MODEL, "acme/base@2", base_files("two"))
    made = await registry.PortAdapter(
        registry_pb2.PortAdapterRequest(adapter="acme/fr", base="acme/base@2", name="acme/fr@2")
    )
    assert (made.adapter.model, made.ported_from) == ("acme/base@2", "acme/fr@1")
    assert made.comparison == "answers not compared"
    assert made.revision == (await registry.ShowObject(asked(ADAPTER, "acme/fr@1"))).revision


async def test_a_port_that_does_not_fit_names_every_tensor_and_publishes_nothing(registry, base):
    await publish_over_grpc(registry, ADAPTER, "acme/fr@1", adapter_files(), base=BASE)
    await publish_over_grpc(registry, MODEL, "acme/wide@1", base_files("wide", hidden=32))
    error = await failure_of(
        registry.PortAdapter(
            registry_pb2.PortAdapterRequest(adapter="acme/fr", base="acme/wide", name="acme/fr@2")
        )
    )
    assert type(error) is InvalidRequest
    assert error.message.startswith("8 tensors of acme/fr@1 do not fit acme/wide@1: ")
    assert (
        "model.layers.1.self_attn.v_proj.lora_B has the shape 8x4, the base needs 16x4"
        in error.message
    )
    assert await names_of(registry, ADAPTER) == ["acme/fr@1"]


async def test_an_adapter_of_an_external_model_cannot_be_checked_so_is_refused(registry, listeners):
    async with listeners.operator_channel() as channel:
        await AdminStub(channel).RegisterModel(
            admin_pb2.RegisterModelRequest(
                name="acme/ext@1",
                source=resources_pb2.MODEL_SOURCE_EXTERNAL,
                context_tokens=2_048,
            )
        )
    error = await failure_of(
        publish_over_grpc(registry, ADAPTER, "acme/fr@1", adapter_files(), base="acme/ext")
    )
    assert type(error) is InvalidRequest
    assert "no adapter can be checked against it" in error.message
