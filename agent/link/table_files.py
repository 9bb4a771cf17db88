"""The last accepted tables on disk, verified when read.

An image is ``magic | length | SHA-256 | payload``; the payload is when the credentials were last
confirmed (Unix ms) and, for each type, a length and its snapshot message.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from google.protobuf.message import DecodeError

from protos.domain.errors import EdgeForgeError
from protos.domain.routing_table import (
    ROWS_PER_STEP,
    Snapshot,
    Table,
    TableRefused,
    apply,
    empty_table,
)
from protos.host.files import make_private_folder, sync_folder
from protos.v1 import fleet_pb2
from protos.wire import snapshot_from_wire, snapshot_to_wire

_log = logging.getLogger(__name__)

_MAGIC = b"EFTABLE1"
_HEAD = struct.Struct(">8sQ32s")
_CONFIRMED = struct.Struct(">q")
_LENGTH = struct.Struct(">I")
KEPT_IMAGES = 3
_OWNER_DIGITS = 32
_MAX_IMAGE_BYTES = 1024 * 1024 * 1024


class BadImage(Exception):
    """An image that is damaged, and the reason."""


@dataclass(frozen=True, slots=True)
class Image:
    """The tables at one moment."""

    tables: tuple[Table, ...]
    credentials_confirmed_unix_ms: int


class TableFiles:
    """Numbered images in one folder; the newest valid one is used.

    They are bound to the node and fleet that they were sent to: each has a folder of its own below
    ``root``, named by a digest of ``owner``.
    """

    def __init__(self, root: Path, owner: str) -> None:
        self._root = root
        self._folder = root / hashlib.sha256(owner.encode()).hexdigest()[:_OWNER_DIGITS]

    def take_over_unbound(self) -> None:
        """Bind the images of an earlier version, which are this node's. Raises: OSError."""
        for path in sorted(self._root.glob("table-*.img")):
            make_private_folder(self._folder)
            path.rename(self._folder / path.name)

    def forget_others(self) -> None:
        """Delete the images of another node or fleet, which this host was before."""
        if not self._root.is_dir():
            return
        for path in self._root.iterdir():
            if path == self._folder:
                continue
            _log.warning("tables of another node or fleet deleted path=%s", path.name)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def save(self, image: Image) -> Path:
        """Write an image, then delete all but the newest three. Blocks. Raises: OSError."""
        make_private_folder(self._folder)
        numbers = self._numbers()
        path = self._path(numbers[-1] + 1 if numbers else 1)
        partial = path.with_suffix(".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(image_parts(image))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        sync_folder(self._folder)
        for number in self._numbers()[:-KEPT_IMAGES]:
            self._path(number).unlink(missing_ok=True)
        return path

    def load(self) -> Image | None:
        """Return the newest valid image, or None. Damaged ones are renamed and logged."""
        for number in reversed(self._numbers()):
            path = self._path(number)
            try:
                if path.stat().st_size > _MAX_IMAGE_BYTES:
                    raise BadImage(f"larger than {_MAX_IMAGE_BYTES} bytes")
                return decode_image(path.read_bytes())
            except (BadImage, OSError) as error:
                _log.error(
                    "table image not usable, trying the previous one file=%s reason=%s",
                    path.name,
                    error,
                )
                path.rename(path.with_suffix(".bad"))
        return None

    def _numbers(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        stems = (path.stem.removeprefix("table-") for path in self._folder.glob("table-*.img"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _path(self, number: int) -> Path:
        return self._folder / f"table-{number:012d}.img"


def image_parts(image: Image) -> list[bytes]:
    """Return the bytes of ``image`` in pieces, each made in a short time."""
    parts = [_CONFIRMED.pack(image.credentials_confirmed_unix_ms)]
    for table in image.tables:
        snapshot = list(_snapshot_parts(table))
        parts += [_LENGTH.pack(sum(map(len, snapshot))), *snapshot]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return [_HEAD.pack(_MAGIC, sum(map(len, parts)), digest.digest()), *parts]


def _snapshot_parts(table: Table) -> Iterator[bytes]:
    """Yield the bytes of a snapshot message piece by piece.

    Concatenated messages parse as one message with the rows in order. Pieces are small, since
    serialising holds the interpreter lock.
    """
    head = Snapshot(table.type, table.at, {}, table.digest)
    yield snapshot_to_wire(head, nonce=0).SerializeToString()
    rows = iter(table.rows.items())
    while piece := list(islice(rows, ROWS_PER_STEP)):
        message = fleet_pb2.Snapshot(
            rows=[fleet_pb2.Row(key=key, payload=row) for key, row in piece]
        )
        yield message.SerializeToString()


def decode_image(data: bytes) -> Image:
    """Return the image in ``data``, every digest checked. Raises: BadImage."""
    if len(data) < _HEAD.size:
        raise BadImage("shorter than its head")
    magic, length, digest = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise BadImage("not a table image")
    payload = data[_HEAD.size :]
    if len(payload) != length:
        raise BadImage(f"truncated: {len(payload)} of {length} bytes")
    if hashlib.sha256(payload).digest() != digest:
        raise BadImage("its digest does not match: bits have flipped")
    try:
        (confirmed,) = _CONFIRMED.unpack_from(payload)
        return Image(tuple(_tables(payload[_CONFIRMED.size :])), confirmed)
    except (struct.error, DecodeError, EdgeForgeError, TableRefused) as error:
        raise BadImage(f"cannot be read: {error}") from error


def _tables(data: bytes) -> Iterable[Table]:
    at = 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        message = fleet_pb2.Snapshot.FromString(data[at : at + length])
        at += length
        snapshot = snapshot_from_wire(message)
        yield apply(empty_table(snapshot.type), snapshot)
