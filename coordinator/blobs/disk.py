"""Disk work of the blob stores: done in threads to its end, errors translated once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from protos.domain.errors import StoreUnavailable

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

#: Free space that blobs must leave: the database needs some on the same disk.
RESERVE_BYTES = 64 * 1024**2
READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW

_FULL = (errno.ENOSPC, errno.EDQUOT)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``function`` in a thread; a cancelled caller leaves only when it has ended.

    A thread that wrote on after its caller left would write into what another one continues.
    """
    call = functools.partial(function, *args, **kwargs)
    done = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        while not done.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((done,))
        if not done.cancelled():
            done.exception()  # retrieved: the cancellation is what the caller learns
        raise


async def on_disk(folder: Path, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``function`` in a thread. Raises: StoreUnavailable for an error of the disk."""
    with disk_errors(folder):
        return await in_thread(function, *args, **kwargs)


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raises: OSError when the disk of ``folder`` has less than ``needed_bytes`` free."""
    disk = os.statvfs(folder)
    free_bytes = disk.f_bavail * disk.f_frsize
    if free_bytes < needed_bytes:
        raise OSError(errno.ENOSPC, f"{free_bytes} bytes are free, {needed_bytes} are needed")


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Translate disk errors to StoreUnavailable, each logged."""
    try:
        yield
    except OSError as error:
        what = "is full" if error.errno in _FULL else "fails"
        _log.error("disk of the blobs %s folder=%s: %s", what, folder.name, error)
        raise StoreUnavailable(
            f"the disk of the coordinator's blobs {what}: {error.strerror}",
            "free space on it and ask again" if error.errno in _FULL else "check that disk",
        ) from error
