"""The guard's log, and how it reads the process table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.engine.guard import RotatingLog, descendants, read_stat


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_a_log_rotates_before_it_is_over_its_limit(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "e.log", limit_bytes=10, files=3)
    for number in range(8):
        log.write(f"line{number}".encode())
        assert all(path.stat().st_size <= 10 for path in tmp_path.iterdir())
    assert contents(tmp_path) == {
        "e.log": "line6line7",
        "e.log.1": "line4line5",
        "e.log.2": "line2line3",
    }


def test_one_write_over_the_limit_is_cut_into_files(tmp_path: Path) -> None:
    RotatingLog(tmp_path / "e.log", limit_bytes=4, files=3).write(b"abcdefghij")
    assert contents(tmp_path) == {"e.log": "ij", "e.log.1": "efgh", "e.log.2": "abcd"}


def test_a_single_file_starts_over(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "e.log", limit_bytes=4, files=1)
    log.write(b"abcd")
    log.write(b"ef")
    assert contents(tmp_path) == {"e.log": "ef"}


def test_a_new_log_continues_the_old_one(tmp_path: Path) -> None:
    RotatingLog(tmp_path / "e.log", limit_bytes=10, files=2).write(b"old ")
    RotatingLog(tmp_path / "e.log", limit_bytes=10, files=2).write(b"new")
    assert contents(tmp_path) == {"e.log": "old new"}


def test_a_log_that_cannot_be_written_loses_lines_and_recovers(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    log = RotatingLog(folder / "e.log", limit_bytes=100, files=2)
    log.write(b"lost")
    folder.mkdir()
    log.write(b"kept")
    assert contents(folder) == {"e.log": "kept"}


def test_a_process_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to(sys.executable)
    with subprocess.Popen([odd, "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        stat = read_stat(process.pid)
        assert stat is not None
        assert (stat.pid, stat.parent) == (process.pid, os.getpid())
        assert process.pid in [one.pid for one in descendants(os.getpid())]
    assert read_stat(process.pid) is None


def test_there_is_no_process_zero() -> None:
    assert read_stat(0) is None


@pytest.mark.parametrize("pid", [2**22 + 1, 2**31 - 1])
def test_nor_one_beyond_the_kernels_limit(pid: int) -> None:
    assert read_stat(pid) is None
