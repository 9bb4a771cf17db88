"""Files are old or new, whole, whatever kills the process that replaces them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from protos.host.files import make_private_folder, write_whole
from tests.support.kills import killed_at_each_call


def test_a_write_killed_at_any_call_leaves_the_old_content_or_the_new(tmp_path: Path) -> None:
    path, seen = tmp_path / "one", set()
    for _ in killed_at_each_call(
        lambda: write_whole(path, b"old"), lambda: write_whole(path, b"new")
    ):
        seen.add(path.read_bytes())
    assert seen == {b"old", b"new"}
    assert [one.name for one in tmp_path.iterdir()] == ["one"], "no leftover of a killed write"


def test_a_write_that_fails_leaves_nothing_beside_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(OSError, match="one"):
        write_whole(tmp_path / "one", b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["one"]


def test_files_and_folders_are_this_users_only(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    make_private_folder(folder)
    make_private_folder(folder)
    write_whole(folder / "one", b"")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    umask = os.umask(0)
    os.umask(umask)
    above = stat.S_IMODE(folder.parent.stat().st_mode)
    assert above == 0o777 & ~umask, "another user's service can pass through"
    assert stat.S_IMODE((folder / "one").stat().st_mode) == 0o600
    folder.chmod(0o755)
    make_private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
