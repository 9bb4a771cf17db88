"""Table images on disk: whole and verified, or not used."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.link.table_files import (
    KEPT_IMAGES,
    BadImage,
    Image,
    TableFiles,
    decode_image,
    image_parts,
)
from protos.domain.resources import ResourceType, resource_type, row_key
from protos.domain.routing_table import ROWS_PER_STEP, TableVersion, table_of
from protos.wire import encode_row
from tests.support.rows import ONE_OF_EACH


def image(version: int = 1) -> Image:
    """Every table with one row of each kind."""
    kinds = {resource_type(one) for one in ONE_OF_EACH}
    tables = tuple(
        table_of(
            kind,
            TableVersion(1, version),
            {row_key(one): encode_row(one) for one in ONE_OF_EACH if resource_type(one) is kind},
        )
        for kind in sorted(kinds)
    )
    return Image(tables, 1_700_000_000_000)


def encode_image(of: Image) -> bytes:
    return b"".join(image_parts(of))


WHOLE = encode_image(image())


@pytest.fixture
def files(tmp_path: Path) -> TableFiles:
    return TableFiles(tmp_path / "tables", "fleet/gru-1")


def test_what_was_saved_comes_back(files: TableFiles) -> None:
    assert files.load() is None
    files.save(image())
    assert files.load() == image()


def test_a_table_of_many_rows_is_written_in_short_pieces_and_is_one_table(
    files: TableFiles,
) -> None:
    rows = {f"pop/P{index}": b"%d" % index for index in range(3 * ROWS_PER_STEP + 1)}
    whole = Image((table_of(ResourceType.TOPOLOGY, TableVersion(1, 1), rows),), 1)
    path = files.save(whole)
    assert path.read_bytes() == encode_image(whole)
    assert files.load() == whole
    assert list(whole.tables[0].rows) == list(files.load().tables[0].rows)
    pieces = [len(part) for part in image_parts(whole)]
    assert max(pieces) < 2 * sum(pieces) / 3, "no piece is most of it"


def test_the_newest_counts_and_three_are_kept(files: TableFiles, tmp_path: Path) -> None:
    for version in range(1, KEPT_IMAGES + 4):
        files.save(image(version))
    assert files.load() == image(KEPT_IMAGES + 3)
    assert len(list((tmp_path / "tables").rglob("table-*.img"))) == KEPT_IMAGES


def test_images_are_for_this_user_only(files: TableFiles) -> None:
    path = files.save(image())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[: len(data) // 2], id="truncated"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:-7] + bytes([data[-7] ^ 1]) + data[-6:], id="bit-flipped"),
        pytest.param(lambda data: b"\0" * len(data), id="zeroed"),
        pytest.param(lambda data: data + b"more", id="longer"),
    ],
)
def test_a_truncated_or_bit_flipped_image_is_passed_over_for_the_one_before_and_logged(
    files: TableFiles, caplog: pytest.LogCaptureFixture, damage
) -> None:
    files.save(image(1))
    path = files.save(image(2))
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.ERROR):
        assert files.load() == image(1)
    assert path.name in caplog.text
    assert path.with_suffix(".bad").exists(), "kept for whoever wants to know why"
    assert files.load() == image(1), "and not tried again"


def test_tables_of_another_node_or_fleet_are_not_loaded_and_deleted_at_the_start(
    files: TableFiles, tmp_path: Path
) -> None:
    """A node enrolled again starts with no tables: none is ahead of the coordinator's."""
    mine = files.save(image(50))
    for other in ("fleet/gru-2", "another-fleet/gru-1"):
        renamed = TableFiles(tmp_path / "tables", other)
        assert renamed.load() is None
    renamed.save(image(1))
    assert files.load() == image(50)
    renamed.forget_others()
    assert not mine.exists()
    assert renamed.load() == image(1)


def test_the_images_of_an_earlier_version_are_taken_over_once(
    files: TableFiles, tmp_path: Path
) -> None:
    root = tmp_path / "tables"
    root.mkdir()
    (root / "table-000000000007.img").write_bytes(WHOLE)
    files.take_over_unbound()
    assert files.load() == image()
    (root / "table-000000000008.img").write_bytes(encode_image(image(9)))
    files.forget_others()
    assert files.load() == image(), "what came without an owner since is nobody's"
    assert list(root.glob("*.img")) == []


def test_nothing_good_on_disk_is_no_image_at_all(files: TableFiles) -> None:
    for version in range(1, 4):
        path = files.save(image(version))
        path.write_bytes(b"junk")
    assert files.load() is None


def test_a_leftover_of_a_killed_write_is_no_image(files: TableFiles, tmp_path: Path) -> None:
    folder = files.save(image(1)).parent
    (folder / "table-000000000002.partial").write_bytes(WHOLE[:100])
    assert files.load() == image(1)
    files.save(image(2))
    assert files.load() == image(2)


@given(st.integers(min_value=0, max_value=len(WHOLE) - 1))
def test_no_prefix_of_an_image_loads(length: int) -> None:
    with pytest.raises(BadImage):
        decode_image(WHOLE[:length])


@given(st.integers(min_value=0, max_value=len(WHOLE) * 8 - 1))
def test_no_image_with_a_flipped_bit_loads(bit: int) -> None:
    data = bytearray(WHOLE)
    data[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(BadImage):
        decode_image(bytes(data))


@given(st.binary(max_size=200))
def test_hostile_bytes_with_a_right_digest_are_refused_not_crashed_on(payload: bytes) -> None:
    head = struct.pack(">8sQ32s", b"EFTABLE1", len(payload), hashlib.sha256(payload).digest())
    with contextlib.suppress(BadImage):
        decode_image(head + payload)
