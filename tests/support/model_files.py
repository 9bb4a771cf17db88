"""Small models in the shape that the registry takes, to be sent over administration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping

from protos.v1 import admin_pb2, resources_pb2

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "max_position_embeddings": 2_048,
    "model_type": "llama",
}


def safetensors(tensor_bytes: int = 64) -> bytes:
    """Return a well-formed safetensors file of one tensor."""
    header = json.dumps(
        {"w": {"dtype": "U8", "shape": [tensor_bytes], "data_offsets": [0, tensor_bytes]}}
    ).encode()
    return len(header).to_bytes(8, "little") + header + bytes(tensor_bytes)


def model_files(**changes: bytes | None) -> dict[str, bytes]:
    """Return a servable model's files; ``changes`` by path, with ``__`` for ``.``; None drops."""
    files: dict[str, bytes] = {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer_config.json": b'{"model_max_length": 2048}',
        "model.safetensors": safetensors(),
    }
    for name, content in changes.items():
        path = name.replace("__", ".")
        if content is None:
            files.pop(path, None)
        else:
            files[path] = content
    return files


def as_messages(files: Mapping[str, bytes]) -> list[resources_pb2.ModelFile]:
    """Return the manifest of ``files`` as it travels."""
    return [
        resources_pb2.ModelFile(
            path=path, sha256=hashlib.sha256(data).digest(), size_bytes=len(data)
        )
        for path, data in files.items()
    ]


def upload_of(data: bytes, chunk_bytes: int = 100_000) -> Iterator[admin_pb2.UploadBlobRequest]:
    """Yield the messages that upload ``data``."""
    yield admin_pb2.UploadBlobRequest(sha256=hashlib.sha256(data).digest(), size_bytes=len(data))
    for start in range(0, len(data), chunk_bytes):
        yield admin_pb2.UploadBlobRequest(data=data[start : start + chunk_bytes])
