"""Uploads of the command line: from where they stopped, again after a broken connection."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from coordinator.cli.folder_scan import ScannedFile
from coordinator.cli.object_upload import upload_missing
from protos.domain.errors import InvalidRequest, LinkDown
from protos.domain.resources import ModelFile
from protos.v1 import registry_pb2

DATA = bytes(range(256)) * 20_000


class RegistryDouble:
    """A coordinator that takes uploads, and breaks the connection after so many bytes."""

    def __init__(self, *breaks_after: int) -> None:
        self.held = b""
        self.breaks_after = list(breaks_after)
        self.offsets: list[int] = []
        self.error: Exception = LinkDown("gone")

    def registry(self, method, request, timeout_s=0.0):
        return method(self)(request)

    def FindUploads(self, request):
        return registry_pb2.FindUploadsResponse(
            uploads=[
                registry_pb2.UploadProgress(
                    sha256=sha256,
                    received_bytes=len(self.held),
                    is_stored=hashlib.sha256(self.held).digest() == sha256,
                )
                for sha256 in request.sha256
            ]
        )

    def Upload(self, messages):
        first = next(messages)
        self.offsets.append(first.offset_bytes)
        assert first.offset_bytes == len(self.held)
        room = self.breaks_after.pop(0) if self.breaks_after else first.size_bytes
        for message in messages:
            self.held += message.data[:room]
            room -= len(message.data)
            if room < 0:
                raise self.error
        return registry_pb2.UploadResponse(received_bytes=len(self.held))


def scanned(folder: Path) -> list[ScannedFile]:
    path = folder / "weights"
    path.write_bytes(DATA)
    return [ScannedFile(ModelFile("w", hashlib.sha256(DATA).digest(), len(DATA)), path)]


def upload(coordinator: RegistryDouble, folder: Path) -> tuple[int, list[float]]:
    pauses: list[float] = []
    return upload_missing(coordinator, scanned(folder), pauses.append), pauses


def test_an_upload_goes_on_from_what_the_coordinator_has(tmp_path):
    coordinator = RegistryDouble()
    coordinator.held = DATA[:1_000_000]
    assert upload(coordinator, tmp_path) == (len(DATA) - 1_000_000, [])
    assert (coordinator.held, coordinator.offsets) == (DATA, [1_000_000])


def test_a_broken_connection_is_gone_on_with(tmp_path):
    coordinator = RegistryDouble(1_500_000, 2_000_000)
    _, pauses = upload(coordinator, tmp_path)
    assert coordinator.held == DATA
    assert coordinator.offsets == [0, 1_500_000, 3_500_000]
    assert pauses == [0.5, 0.5], "progress between them"


def test_without_progress_it_is_given_up(tmp_path):
    coordinator = RegistryDouble(0, 0, 0, 0, 0, 0)
    with pytest.raises(LinkDown):
        upload(coordinator, tmp_path)
    assert coordinator.offsets == [0] * 5


def test_a_refusal_is_not_tried_again(tmp_path):
    coordinator = RegistryDouble(0)
    coordinator.error = InvalidRequest("no")
    with pytest.raises(InvalidRequest):
        upload(coordinator, tmp_path)
    assert coordinator.offsets == [0]


def test_what_is_stored_is_not_sent(tmp_path):
    coordinator = RegistryDouble()
    coordinator.held = DATA
    assert upload(coordinator, tmp_path) == (0, [])
    assert coordinator.offsets == []


def test_equal_files_are_sent_once(tmp_path):
    coordinator = RegistryDouble()
    assert upload_missing(coordinator, scanned(tmp_path) * 2) == len(DATA)
    assert coordinator.offsets == [0]
