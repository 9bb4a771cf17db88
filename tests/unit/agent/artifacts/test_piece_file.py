"""A file that is being pulled: what is on disk after a kill at any moment."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from agent.artifacts.piece_file import PieceFile
from protos.domain.pieces import PIECE_BYTES
from tests.support.kills import killed_at_each_call
from tests.support.pulled_objects import digests_of, noise

DATA = noise(2 * PIECE_BYTES + 100, 3)
PIECES = [DATA[at : at + PIECE_BYTES] for at in range(0, len(DATA), PIECE_BYTES)]


def file_in(folder: Path) -> PieceFile:
    return PieceFile(folder / "partial" / "f", len(DATA), digests_of(DATA))


def test_pieces_are_written_in_any_order_and_published(tmp_path: Path) -> None:
    file = file_in(tmp_path)
    assert file.open() == 0
    for index in (2, 0, 1):
        file.write(index, PIECES[index])
    assert file.read(1, 5, 7) == PIECES[1][5:12]
    file.publish(tmp_path / "whole")
    file.close()
    file.close()
    assert (tmp_path / "whole").read_bytes() == DATA
    assert list((tmp_path / "partial").iterdir()) == []


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    file = file_in(tmp_path)
    file.open()
    file.write(1, PIECES[1])
    file.close()
    again = file_in(tmp_path)
    assert again.open() == 0b010
    again.close()


@pytest.mark.parametrize("bitmap", [b"", b"\x07", b"\xff" * 500], ids=["none", "full", "long"])
def test_a_bitmap_is_a_claim_that_is_verified(tmp_path: Path, bitmap: bytes) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "f").write_bytes(DATA[:PIECE_BYTES] + bytes(len(DATA) - PIECE_BYTES))
    (tmp_path / "partial" / "f.pieces").write_bytes(bitmap)
    file = file_in(tmp_path)
    assert file.open() == (0b001 if bitmap else 0)
    file.close()


@pytest.mark.parametrize("size_bytes", [0, 10, 3 * PIECE_BYTES])
def test_a_file_of_another_length_is_made_to_fit(tmp_path: Path, size_bytes: int) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "f").write_bytes(bytes(size_bytes))
    file = file_in(tmp_path)
    assert file.open() == 0
    file.close()
    assert file.path.stat().st_size == len(DATA)


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "partial" / "f").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic"):
        file_in(tmp_path).open()
    assert (tmp_path / "target").read_bytes() == b"precious"


def test_killed_at_any_call_of_the_system_nothing_false_is_kept(tmp_path: Path) -> None:
    def prepare() -> None:
        for one in [*(tmp_path / "partial").glob("*"), *tmp_path.glob("whole")]:
            one.unlink()

    def work() -> None:
        file = file_in(tmp_path)
        file.open()
        for index, piece in enumerate(PIECES):
            file.write(index, piece)
        file.publish(tmp_path / "whole")

    ended = 0
    for _ in killed_at_each_call(prepare, work):
        ended += 1
        if (tmp_path / "whole").exists():
            assert (tmp_path / "whole").read_bytes() == DATA
            continue
        file = file_in(tmp_path)
        have = file.open()
        for index, piece in enumerate(PIECES):
            if have >> index & 1:
                found = file.read(index, 0, len(piece))
                assert hashlib.sha256(found).digest() == file.digests[index]
        file.close()
    assert ended > 8
