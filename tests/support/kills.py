"""Kills a piece of work at each of its calls of the operating system, one at a time."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from types import FrameType

#: Above this a piece of work is not one that a test should kill at every step.
MAX_CALLS = 2_000
_KILLED, _DONE, _FAILED = 9, 0, 1


def killed_at_each_call(prepare: Callable[[], None], work: Callable[[], None]) -> Killings:
    """Return an iterator: before each step ``prepare`` runs, then ``work`` is killed at a call.

    The n-th step kills before the n-th call; the last step is whole. The work runs in a forked
    child that ends without any clean-up, as after SIGKILL.
    """
    return Killings(prepare, work)


class Killings:
    """Yields after each kill, so that a test looks at what is left on disk."""

    def __init__(self, prepare: Callable[[], None], work: Callable[[], None]) -> None:
        self._prepare = prepare
        self._work = work

    def __iter__(self):
        for count in range(1, MAX_CALLS):
            self._prepare()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads, since 3.12
                pid = os.fork()
            if pid == 0:
                _run_killed(self._work, count)
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


def _run_killed(work: Callable[[], None], at_call: int) -> None:
    left = at_call

    def on_call(_frame: FrameType, event: str, argument: object) -> None:
        nonlocal left
        if event == "c_call" and _asks_the_system(argument):
            left -= 1
            if left <= 0:
                os._exit(_KILLED)

    try:
        sys.setprofile(on_call)
        work()
        sys.setprofile(None)
    except BaseException:
        os._exit(_FAILED)
    os._exit(_DONE)
