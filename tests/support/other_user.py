"""Code as another user: the service's, where commands run as root."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

#: An account that every Linux host has and that owns nothing.
SERVICE = pwd.getpwnam("nobody")
IS_ROOT = os.geteuid() == 0
#: Who owns what is given to the service, as far as this process may give it.
OWNER = SERVICE.pw_uid if IS_ROOT else os.geteuid()


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that every user may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def as_service(work: Callable[[], None]) -> None:
    """Run ``work`` in a child of the service's user; as this user where this one is not root.

    What it raises is raised here as AssertionError.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, since 3.12
        pid = os.fork()
    if pid == 0:
        os.close(reading)
        said = b""
        try:
            if IS_ROOT:
                os.setgroups([])
                os.setgid(SERVICE.pw_gid)
                os.setuid(SERVICE.pw_uid)
            work()
        except BaseException as error:
            said = repr(error).encode()
        os.write(writing, said)
        os._exit(1 if said else 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    assert not said, said.decode()


def give(path: Path) -> None:
    """Give a path to the service's user, where this process may."""
    if IS_ROOT:
        os.chown(path, SERVICE.pw_uid, SERVICE.pw_gid)


def serve_as_service(command: str, config: Path) -> subprocess.CompletedProcess[str]:
    """Serve in vain as the service's user."""
    user = {"user": SERVICE.pw_uid, "group": SERVICE.pw_gid, "extra_groups": []} if IS_ROOT else {}
    return subprocess.run(
        [command, "serve", "--config", config],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **user,
    )


def owners(folder: Path) -> set[int]:
    """Return the owners of ``folder`` and of all that is in it."""
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}
