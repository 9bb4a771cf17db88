"""Imports files of this machine as a model of the registry."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from coordinator.cli.client import AdminClient
from protos.domain.errors import EdgeForgeError, InvalidRequest, NoEngineEnvironment
from protos.domain.manifest import check_manifest
from protos.domain.model_folder import TIDIED_NAMES, is_read, without_dropped_keys
from protos.domain.resources import ModelFile, ModelSource
from protos.v1 import admin_pb2, resources_pb2
from protos.wire import model_file_to_wire, model_source_to_wire

Report = Callable[[str], None]

_CHUNK_BYTES = 1024 * 1024
_UPLOAD_TIMEOUT_S = 3_600.0
_REGISTER_TIMEOUT_S = 300.0
#: Longest conversion: a start, and reading and writing at 10 MB a second.
_CONVERT_BASE_S = 600.0
_CONVERT_BYTES_PER_S = 10_000_000
_MAX_LINE_BYTES = 64 * 1024
_MAX_CONFIG_BYTES = 4 * 1024**2
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
    wall_s = _CONVERT_BASE_S + gguf.stat().st_size / _CONVERT_BYTES_PER_S
    try:
        _convert(python, gguf, target, wall_s, report)
    finally:
        # A killed converter leaves what it had written.
        shutil.rmtree(target.with_name(target.name + ".partial"), ignore_errors=True)
    return target


def _convert(python: Path, gguf: Path, target: Path, wall_s: float, report: Report) -> None:
    """Run the converter, which limits itself, for ``wall_s`` at most. Raises: InvalidRequest."""
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [str(python.absolute()), str(_CONVERTER), str(gguf.absolute()), str(target)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        late = threading.Event()

        def end_late() -> None:
            late.set()
            _kill(child)

        timer = threading.Timer(wall_s, end_late)
        timer.start()
        try:
            assert child.stdout is not None
            with child.stdout as output:
                last = _follow(output, report)
            returncode = child.wait()
        finally:
            timer.cancel()
            _kill(child)
            child.wait()
        if returncode == 0:
            return
        if isinstance(error := last.get("error"), dict):
            raise InvalidRequest(f"{gguf.name}: {error['message']}", error.get("hint", ""))
        raise InvalidRequest(
            f"{gguf.name}: the conversion {_end_of(returncode, late.is_set(), wall_s, log)}",
            "its limits are in docs/OPERATIONS.md; safetensors need no conversion",
        )


def _follow(output: IO[bytes], report: Report) -> dict[str, object]:
    """Report each new stage; return the last line."""
    last: dict[str, object] = {}
    stage = ""
    while line := output.readline(_MAX_LINE_BYTES):
        with contextlib.suppress(ValueError, RecursionError):
            content = json.loads(line)
            last = content if isinstance(content, dict) else {}
        if last.get("stage") not in (None, stage, "done"):
            stage = str(last["stage"])
            report(f"  {stage}")
    return last


def _end_of(returncode: int, is_late: bool, wall_s: float, log: IO[bytes]) -> str:
    if is_late:
        return f"took longer than {wall_s:.0f} s"
    if returncode == -signal.SIGXCPU:
        return "took more processor time than a file of its size may"
    if returncode == -signal.SIGXFSZ:
        return "wrote more than a file of its size may"
    log.seek(0)
    said = " ".join(log.read().decode(errors="replace").split())
    return f"ended with exit {returncode}: {said[-300:]}"


def _kill(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


class ScannedFile(NamedTuple):
    """A file of the model, and where its bytes are on this machine."""

    file: ModelFile
    source: Path


def scan_folder(folder: Path, scratch: Path, report: Report) -> list[ScannedFile]:
    """Return what is imported of ``folder``. Raises: InvalidRequest for files not allowed in it.

    Files that no engine reads are left out; configurations that name the machine they were made on
    are imported without that, from a copy in ``scratch``.
    """
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is no directory", "give a safetensors directory or a .gguf")
    paths = []
    for name, path in sorted(_walk(folder)):
        if is_read(name):
            paths.append((name, path))
        else:
            report(f"leaving out {name}: no engine reads it")
    # Names are checked before any file is opened.
    check_manifest([ModelFile(name, bytes(32), path.stat().st_size) for name, path in paths])
    found = []
    for name, path in paths:
        source = _tidied(name, path, scratch, report) if name in TIDIED_NAMES else path
        size_bytes = source.stat().st_size
        if size_bytes > 64 * _CHUNK_BYTES:
            report(f"hashing {name} ({size_bytes / 1024**2:.0f} MiB)")
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        found.append(ScannedFile(ModelFile(name, digest, size_bytes), source))
    return found


def _tidied(name: str, path: Path, scratch: Path, report: Report) -> Path:
    """Return ``path``, or a copy without the keys that are left out of an import."""
    if path.stat().st_size > _MAX_CONFIG_BYTES:
        return path
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return path  # the coordinator says what is wrong with it
    if not isinstance(content, dict):
        return path
    kept, dropped = without_dropped_keys(content)
    if not dropped:
        return path
    report(f"{name}: leaving out {', '.join(dropped)}")
    copy = scratch / f"tidied-{name}"
    copy.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return copy


def upload_missing(client: AdminClient, scanned: list[ScannedFile], report: Report) -> int:
    """Upload the files that the coordinator lacks; return their bytes."""
    request = admin_pb2.FindMissingBlobsRequest(sha256=[each.file.sha256 for each in scanned])
    missing = set(client.call(lambda stub: stub.FindMissingBlobs, request).sha256)
    sent_bytes = 0
    for file, source in scanned:
        if file.sha256 not in missing:
            continue
        missing.discard(file.sha256)
        report(f"uploading {file.path} ({file.size_bytes / 1024**2:.1f} MiB)")
        messages = _upload_messages(source, file)
        client.call(lambda stub: stub.UploadBlob, messages, _UPLOAD_TIMEOUT_S)
        sent_bytes += file.size_bytes
    return sent_bytes


def register(
    client: AdminClient, name: str, scanned: list[ScannedFile], context_tokens: int
) -> resources_pb2.Model:
    """Register the uploaded files as a model."""
    request = admin_pb2.RegisterModelRequest(
        name=name,
        source=model_source_to_wire(ModelSource.MANAGED),
        files=[model_file_to_wire(each.file) for each in scanned],
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
