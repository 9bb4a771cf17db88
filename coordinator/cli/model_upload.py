"""Imports files of this machine as a model of the registry."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from coordinator.cli.client import AdminClient
from protos.domain.errors import EdgeForgeError, InvalidRequest, NoEngineEnvironment
from protos.domain.manifest import check_manifest
from protos.domain.resources import ModelFile, ModelSource
from protos.v1 import admin_pb2, resources_pb2
from protos.wire import model_file_to_wire, model_source_to_wire

Report = Callable[[str], None]

_CHUNK_BYTES = 1024 * 1024
_UPLOAD_TIMEOUT_S = 3_600.0
_REGISTER_TIMEOUT_S = 300.0
_CONVERT_TIMEOUT_S = 3_600.0
#: Files that downloads contain and no engine needs.
_IGNORED = frozenset({".gitattributes", ".gitignore"})
_CONVERTER = Path(__file__).parent.parent / "blobs" / "gguf_to_safetensors.py"


def dequantise(gguf: Path, target: Path, engine_venv: Path, report: Report) -> Path:
    """Turn a GGUF file into a safetensors directory. Raises: InvalidRequest with the reason.

    Runs the engine environment's Python, which has torch; the product environment has not.
    """
    python = engine_venv / "bin" / "python"
    if not os.access(python, os.X_OK):
        raise NoEngineEnvironment(
            [f"a GGUF file is dequantised by the engine environment, and {python} is not there"],
            "install it: packaging/engine/install, or name it with --engine-venv",
        )
    report(f"dequantising {gguf.name}")
    done = subprocess.run(
        [str(python.absolute()), str(_CONVERTER), str(gguf.absolute()), str(target)],
        capture_output=True,
        text=True,
        timeout=_CONVERT_TIMEOUT_S,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    last = json.loads(lines[-1]) if lines else {}
    if done.returncode != 0:
        error = last.get("error") or {"message": done.stderr.strip()[-300:], "hint": ""}
        raise InvalidRequest(f"{gguf.name}: {error['message']}", error.get("hint", ""))
    return target


def scan_folder(folder: Path, report: Report) -> list[ModelFile]:
    """Return the manifest of ``folder``. Raises: InvalidRequest for files not allowed in it."""
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is no directory", "give a safetensors directory or a .gguf")
    paths = sorted(_walk(folder))
    # Names are checked before any file is opened.
    check_manifest([ModelFile(name, bytes(32), path.stat().st_size) for name, path in paths])
    files = []
    for name, path in paths:
        size_bytes = path.stat().st_size
        if size_bytes > 64 * _CHUNK_BYTES:
            report(f"hashing {name} ({size_bytes / 1024**2:.0f} MiB)")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        files.append(ModelFile(name, digest, size_bytes))
    return files


def upload_missing(
    client: AdminClient, folder: Path, files: list[ModelFile], report: Report
) -> int:
    """Upload the files that the coordinator lacks; return their bytes."""
    request = admin_pb2.FindMissingBlobsRequest(sha256=[file.sha256 for file in files])
    missing = set(client.call(lambda stub: stub.FindMissingBlobs, request).sha256)
    sent_bytes = 0
    for file in files:
        if file.sha256 not in missing:
            continue
        missing.discard(file.sha256)
        report(f"uploading {file.path} ({file.size_bytes / 1024**2:.1f} MiB)")
        messages = _upload_messages(folder / file.path, file)
        client.call(lambda stub: stub.UploadBlob, messages, _UPLOAD_TIMEOUT_S)
        sent_bytes += file.size_bytes
    return sent_bytes


def register(
    client: AdminClient, name: str, files: list[ModelFile], context_tokens: int
) -> resources_pb2.Model:
    """Register the uploaded files as a model."""
    request = admin_pb2.RegisterModelRequest(
        name=name,
        source=model_source_to_wire(ModelSource.MANAGED),
        files=[model_file_to_wire(file) for file in files],
        context_tokens=context_tokens,
    )
    return client.call(lambda stub: stub.RegisterModel, request, _REGISTER_TIMEOUT_S)


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for entry in folder.iterdir():
        if entry.name in _IGNORED:
            continue
        if entry.is_symlink():
            raise InvalidRequest(
                f"{entry} is a link", "import a directory of plain files: cp -rL makes one"
            )
        if entry.is_dir():
            for name, path in _walk(entry):
                yield f"{entry.name}/{name}", path
        elif entry.is_file():
            yield entry.name, entry
        else:
            raise InvalidRequest(f"{entry} is neither a file nor a directory")


def _upload_messages(path: Path, file: ModelFile) -> Iterator[admin_pb2.UploadBlobRequest]:
    yield admin_pb2.UploadBlobRequest(sha256=file.sha256, size_bytes=file.size_bytes)
    try:
        with path.open("rb") as source:
            while data := source.read(_CHUNK_BYTES):
                yield admin_pb2.UploadBlobRequest(data=data)
    except OSError as error:
        raise EdgeForgeError(f"cannot read {path}: {error.strerror}") from error
