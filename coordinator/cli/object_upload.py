"""Sends files to the registry; an upload that broke continues, from this machine or another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator import clock
from coordinator.cli.upload_progress import UploadProgress
from protos.domain.errors import EdgeForgeError
from protos.v1 import registry_pb2
from protos.wire import model_file_to_wire

if TYPE_CHECKING:
    from coordinator.cli.client import AdminClient
    from coordinator.cli.folder_scan import ScannedFile

_CHUNK_BYTES = 1024 * 1024
_UPLOAD_TIMEOUT_S = 3_600.0
#: Checks read every header, try templates, and read all values of an adapter.
PUBLISH_TIMEOUT_S = 600.0
#: Tries of one file without a byte of progress between them, and the pause after each.
_MAX_TRIES = 5
_PAUSES_S = (0.5, 1.0, 2.0, 4.0)


def upload_missing(
    client: AdminClient,
    scanned: Sequence[ScannedFile],
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Upload what the coordinator lacks of the files; return how many bytes were sent."""
    sent_bytes = 0
    left = {one.sha256: one for one in _progress(client, [each.file.sha256 for each in scanned])}
    for each in scanned:
        found = left.pop(each.file.sha256, None)
        if found is not None and not found.is_stored:
            _upload(client, each, found.received_bytes, pause)
            sent_bytes += each.file.size_bytes - found.received_bytes
    return sent_bytes


def publish_files(
    client: AdminClient,
    kind: registry_pb2.ObjectKind.ValueType,
    name: str,
    scanned: Sequence[ScannedFile],
    **fields: Any,  # noqa: ANN401 - of PublishRequest
) -> registry_pb2.RegistryObject:
    """Publish files that have been uploaded. Raises: what the coordinator answered."""
    request = registry_pb2.PublishRequest(
        kind=kind, name=name, files=[model_file_to_wire(each.file) for each in scanned], **fields
    )
    return client.registry(lambda stub: stub.Publish, request, PUBLISH_TIMEOUT_S)


def _upload(
    client: AdminClient, scanned: ScannedFile, begun_bytes: int, pause: Callable[[float], None]
) -> None:
    """Send one file from ``begun_bytes`` on, again from where it broke if that may help."""
    file = scanned.file
    progress = UploadProgress(file.path, begun_bytes, file.size_bytes, clock.now_mono_ms)
    offset_bytes, tries = begun_bytes, 0
    while True:
        try:
            messages = _messages(scanned, offset_bytes, progress)
            client.registry(lambda stub: stub.Upload, messages, _UPLOAD_TIMEOUT_S)
            progress.finish()
            return
        except EdgeForgeError as error:
            tries += 1
            if not error.retryable or tries >= _MAX_TRIES:
                raise
            pause(_PAUSES_S[tries - 1])
        (found,) = _progress(client, [file.sha256])
        if found.is_stored:
            progress.finish()
            return
        if found.received_bytes > offset_bytes:
            tries = 0
        offset_bytes = found.received_bytes
        progress.restart(offset_bytes)


def _progress(
    client: AdminClient, sha256s: Sequence[bytes]
) -> Sequence[registry_pb2.UploadProgress]:
    if not sha256s:
        return ()
    request = registry_pb2.FindUploadsRequest(sha256=sha256s)
    return client.registry(lambda stub: stub.FindUploads, request).uploads


def _messages(
    scanned: ScannedFile, offset_bytes: int, progress: UploadProgress
) -> Iterator[registry_pb2.UploadRequest]:
    file = scanned.file
    yield registry_pb2.UploadRequest(
        sha256=file.sha256, size_bytes=file.size_bytes, offset_bytes=offset_bytes
    )
    try:
        with Path(scanned.source).open("rb") as source:
            source.seek(offset_bytes)
            while data := source.read(_CHUNK_BYTES):
                yield registry_pb2.UploadRequest(data=data)
                progress.advance(len(data))
    except OSError as error:
        raise EdgeForgeError(f"cannot read {scanned.source}: {error.strerror}") from error
