"""Kills a piece of work at each of its calls of the operating system, one at a time."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable
from types import FrameType

#: Above this a piece of work is not one that a test should kill at every step.
MAX_CALLS = 2_000
_KILLED, _DONE, _FAILED = 9, 0, 1


#: Calls that change what is on disk.
CHANGING = frozenset(
    (
        "write",
        "pwrite",
        "pwritev",
        "fsync",
        "fdatasync",
        "posix_fallocate",
        "truncate",
        "unlink",
        "rename",
        "mkdir",
        "rmdir",
    )
)


def killed_at_each_call(
    prepare: Callable[[], None],
    work: Callable[[], None],
    names: frozenset[str] | None = None,
) -> Killings:
    """Return an iterator: before each step ``prepare`` runs, then ``work`` is killed at a call.

    The n-th step kills before the n-th call; the last step is whole. The work runs in a forked
    child that ends without any clean-up, as after SIGKILL. Calls of other ``names`` do not count.
    """
    return Killings(prepare, work, names)


class Killings:
    """Yields after each kill, so that a test looks at what is left on disk."""

    def __init__(
        self,
        prepare: Callable[[], None],
        work: Callable[[], None],
        names: frozenset[str] | None = None,
    ) -> None:
        self._names = names
        self._prepare = prepare
        self._work = work

    def __iter__(self):
        for count in range(1, MAX_CALLS):
            self._prepare()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads, since 3.12
                pid = os.fork()
            if pid == 0:
                _run_killed(self._work, count, self._names)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            assert code in (_KILLED, _DONE), f"the work failed at call {count}"
            yield count
            if code == _DONE:
                return
        raise AssertionError(f"more than {MAX_CALLS} calls")


def _asks_the_system(function: object) -> bool:
    """Whether a C function is of ``os``, or a method of an open file."""
    of = getattr(function, "__self__", None)
    return getattr(function, "__module__", "") == "posix" or type(of).__module__ == "_io"


def _run_killed(work: Callable[[], None], at_call: int, names: frozenset[str] | None) -> None:
    left = at_call

    def on_call(_frame: FrameType, event: str, argument: object) -> None:
        nonlocal left
        if event != "c_call" or not _asks_the_system(argument):
            return
        if names is None or argument.__name__ in names:
            left -= 1
            if left <= 0:
                os._exit(_KILLED)

    try:
        threading.setprofile(on_call)  # of threads that the work starts
        sys.setprofile(on_call)
        work()
        sys.setprofile(None)
    except BaseException:
        os._exit(_FAILED)
    os._exit(_DONE)
