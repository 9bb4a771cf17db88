"""The registry over administration: import in three steps, and refusals."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest

from coordinator.blobs.interface import CHUNK_BYTES
from coordinator.core.model_config import MODEL_TYPE_OF_ARCHITECTURE
from coordinator.rpc import upload_stream
from protos.domain.errors import Conflict, DeadlineExceeded, InvalidRequest, TooLarge
from protos.v1 import admin_pb2, resources_pb2
from tests.support.model_files import CONFIG, as_messages, model_files, safetensors, upload_of
from tests.support.operator_listeners import failure_of
from tests.support.stores import audited

NAME = "acme/tiny@1"


async def import_model(admin, files, name=NAME, **fields):
    for data in files.values():
        await admin.UploadBlob(upload_of(data))
    return await admin.RegisterModel(
        admin_pb2.RegisterModelRequest(
            name=name,
            source=resources_pb2.MODEL_SOURCE_MANAGED,
            files=as_messages(files),
            **fields,
        )
    )


async def refusal_of(admin, files, name=NAME, **fields):
    error = await failure_of(import_model(admin, files, name, **fields))
    assert type(error) is InvalidRequest
    assert not (await admin.ListModels(admin_pb2.ListModelsRequest())).models
    return error


async def test_importing_in_three_steps(listeners, admin):
    files = model_files()
    digests = [message.sha256 for message in as_messages(files)]
    request = admin_pb2.FindMissingBlobsRequest(sha256=digests)
    assert list((await admin.FindMissingBlobs(request)).sha256) == digests
    model = await import_model(admin, files)
    assert not (await admin.FindMissingBlobs(request)).sha256
    assert (model.name, model.family, model.size_class) == (NAME, "llama", "xs")
    assert model.context_tokens == 2_048
    assert model.weights_bytes == len(files["model.safetensors"])
    assert len(model.manifest_sha256) == 32
    assert list((await admin.ListModels(admin_pb2.ListModelsRequest())).models) == [model]
    kept = {file.path: file.sha256 for file in listeners.store.manifest(NAME)}
    assert kept == {path: hashlib.sha256(data).digest() for path, data in files.items()}
    entries = await audited(listeners.store, 10)
    assert [entry.note.action for entry in entries] == ["model.register"] + ["blob.upload"] * 3
    assert {entry.note.actor for entry in entries} == {"operator/ana"}


async def test_importing_again_changes_nothing_and_other_content_is_a_conflict(admin):
    model = await import_model(admin, model_files())
    assert await import_model(admin, model_files()) == model
    other = model_files(model__safetensors=safetensors(128))
    error = await failure_of(import_model(admin, other))
    assert type(error) is Conflict
    assert not error.retryable
    assert (await import_model(admin, other, "acme/tiny@2")).name == "acme/tiny@2"


async def test_a_context_may_be_shortened_but_not_lengthened(admin):
    error = await refusal_of(admin, model_files(), context_tokens=4_096)
    assert "2048" in error.message
    assert (await import_model(admin, model_files(), context_tokens=1_024)).context_tokens == 1_024


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (model_files(config__json=None), "config.json"),
        (model_files(model__safetensors=None), "safetensors"),
        (model_files(pytorch_model__bin=b"x"), "can hold code"),
        (model_files(model__pt=b"x"), "can hold code"),
        (model_files(modeling_evil__py=b"import os"), "can hold code"),
        (model_files() | {"../escape.json": b"{}"}, "not allowed"),
        (model_files() | {"/etc/passwd.json": b"{}"}, "not allowed"),
        (model_files(config__json=b"not json"), "not JSON"),
        (model_files(config__json=b"[" * 100_000), "not JSON"),
        (model_files(config__json=b"[1]"), "not a JSON object"),
        (
            model_files(config__json=json.dumps(CONFIG | {"auto_map": {"A": "b.C"}}).encode()),
            "code",
        ),
        (model_files(tokenizer_config__json=b'{"auto_map": {"AutoTokenizer": "t.T"}}'), "code"),
        (
            model_files(config__json=json.dumps(CONFIG | {"architectures": ["GPT2"]}).encode()),
            "not served",
        ),
        (
            model_files(
                config__json=json.dumps(
                    CONFIG | {"speculators_config": {"verifier": {"name_or_path": "/etc"}}}
                ).encode()
            ),
            "speculators_config",
        ),
        (
            model_files(config__json=json.dumps(CONFIG | {"_name_or_path": "a/b"}).encode()),
            "edgeforge model import leaves it out",
        ),
        (model_files() | {"params.json": b"{}"}, "params.json is not a file"),
        (model_files() | {"adapter_config.json": b"{}"}, "adapter_config.json is not a file"),
        (model_files() | {"consolidated.safetensors": safetensors()}, "consolidated.safetensors"),
        (
            model_files(tokenizer_config__json=b'{"sp_model_kwargs": {"model_file": "/x"}}'),
            "sp_model_kwargs",
        ),
        (model_files(model__safetensors=safetensors() + b"more"), "68 bytes of tensors"),
        (model_files(model__safetensors=safetensors()[:-1]), "63 bytes of tensors"),
        (model_files(model__safetensors=b"\x80\x04pickled" * 10), "not a safetensors file"),
        (model_files(model__safetensors=b"{"), "not a safetensors file"),
        (model_files(model__safetensors=(999).to_bytes(8, "little") + b"{}"), "not a safetensors"),
        (
            model_files()
            | {"model.safetensors.index.json": b'{"weight_map": {"a": "x.safetensors"}}'},
            "x.safetensors",
        ),
        (model_files() | {"model.safetensors.index.json": b"{}"}, "weight_map"),
    ],
)
async def test_manifests_that_are_not_allowed_are_refused(admin, files, says):
    error = await refusal_of(admin, files)
    assert says in str(error)


async def test_every_supported_family(admin):
    for number, (architecture, family) in enumerate(
        {
            "MistralForCausalLM": "mistral",
            "Qwen3ForCausalLM": "qwen",
            "Phi3ForCausalLM": "phi",
        }.items()
    ):
        kind = {
            "architectures": [architecture],
            "model_type": MODEL_TYPE_OF_ARCHITECTURE[architecture],
        }
        config = json.dumps(CONFIG | kind).encode()
        model = await import_model(admin, model_files(config__json=config), f"acme/m{number}@1")
        assert model.family == family


async def test_a_model_with_missing_files_is_refused(admin):
    files = as_messages(model_files())
    request = admin_pb2.RegisterModelRequest(
        name=NAME, source=resources_pb2.MODEL_SOURCE_MANAGED, files=files
    )
    error = await failure_of(admin.RegisterModel(request))
    assert "3 files have not been uploaded" in error.message
    assert "import again" in error.hint


async def test_a_size_that_differs_from_the_blobs_is_refused(admin):
    files = model_files()
    await import_model(admin, files)
    messages = as_messages(files)
    messages[0].size_bytes += 1
    request = admin_pb2.RegisterModelRequest(
        name="acme/b@1", source=resources_pb2.MODEL_SOURCE_MANAGED, files=messages
    )
    assert "bytes, not" in (await failure_of(admin.RegisterModel(request))).message


async def test_external_models(admin):
    def request(**fields):
        source = resources_pb2.MODEL_SOURCE_EXTERNAL
        return admin_pb2.RegisterModelRequest(name="acme/ext@1", source=source, **fields)

    model = await admin.RegisterModel(request(context_tokens=4_096, size_class="m"))
    assert (model.context_tokens, model.size_class, model.manifest_sha256) == (4_096, "m", b"")
    for fields, says in (
        ({}, "context_tokens"),
        ({"context_tokens": 1, "files": as_messages(model_files())}, "no files"),
        ({"context_tokens": 1, "size_class": "huge"}, "size class"),
    ):
        assert says in str(await failure_of(admin.RegisterModel(request(**fields))))


@pytest.mark.parametrize("name", ["", "tiny", "acme/tiny", "../x@1", "acme/tiny@1/../2"])
async def test_names_have_a_grammar(admin, name):
    external = resources_pb2.MODEL_SOURCE_EXTERNAL
    request = admin_pb2.RegisterModelRequest(name=name, source=external)
    error = await failure_of(admin.RegisterModel(request))
    assert type(error) is InvalidRequest
    assert "owner/name@version" in error.hint


async def test_an_unspecified_source_is_refused(admin):
    error = await failure_of(admin.RegisterModel(admin_pb2.RegisterModelRequest(name=NAME)))
    assert "managed or external" in error.message


async def test_uploads_that_differ_from_their_announcement_are_refused(admin, listeners):
    data = b"x" * 1_000
    sha256 = hashlib.sha256(data).digest()

    def messages(sha256=sha256, size_bytes=1_000, chunks=(data,)):
        yield admin_pb2.UploadBlobRequest(sha256=sha256, size_bytes=size_bytes)
        for chunk in chunks:
            yield admin_pb2.UploadBlobRequest(data=chunk)

    for upload, kind in (
        (iter(()), InvalidRequest),
        (messages(chunks=(b"y" * 1_000,)), InvalidRequest),
        (messages(chunks=(data, b"x")), InvalidRequest),
        (messages(chunks=(data[1:],)), InvalidRequest),
        (messages(sha256=b"short"), InvalidRequest),
        (messages(size_bytes=6_000_000), TooLarge),
        (messages(size_bytes=3_000_000, chunks=(bytes(CHUNK_BYTES + 1),)), TooLarge),
    ):
        assert type(await failure_of(admin.UploadBlob(upload))) is kind
    assert await listeners.blobs.size_bytes(sha256) is None
    assert (await admin.UploadBlob(messages())).size_bytes == 1_000


async def test_a_silent_upload_is_ended(admin, monkeypatch):
    monkeypatch.setattr(upload_stream, "UPLOAD_IDLE_S", 0.2)
    forever = asyncio.Event()

    async def silent():
        yield admin_pb2.UploadBlobRequest(sha256=b"x" * 32, size_bytes=10)
        await forever.wait()

    error = await failure_of(admin.UploadBlob(silent()))
    assert type(error) is DeadlineExceeded


async def test_too_many_digests_in_one_call_are_refused(admin):
    request = admin_pb2.FindMissingBlobsRequest(sha256=[b"x" * 32] * 1_001)
    assert type(await failure_of(admin.FindMissingBlobs(request))) is InvalidRequest
