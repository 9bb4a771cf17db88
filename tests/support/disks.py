"""Disks that really run full."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path


def mount_small_disk(folder: Path, size: str) -> bool:
    """Mount a disk of ``size`` in memory over ``folder``; return whether that was allowed."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


def unmount(folder: Path) -> None:
    """Take the disk away, even from under a process that a failed test has left."""
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_disk(folder: Path) -> Path:
    """Use up all space in ``folder`` and return the file that holds it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"." * 4_096)
    return ballast
