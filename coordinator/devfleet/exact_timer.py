"""Callbacks at exact times by a timerfd: event loops round timers to whole milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import heapq
import itertools
import os
from collections.abc import Callable

# Source: timerfd_create(2), sys/timerfd.h.
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = 0o4000
_TFD_CLOEXEC = 0o2000000
_TFD_TIMER_ABSTIME = 1
_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("it_interval", _Timespec), ("it_value", _Timespec)]


class ExactTimer:
    """Calls back on the running event loop; times are of the monotonic clock."""

    def __init__(self, now_mono_ms: Callable[[], float]) -> None:
        self._now_mono_ms = now_mono_ms
        self._waiting: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = itertools.count()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._ring)

    def at(self, mono_ms: float, call: Callable[[float], None]) -> None:
        """Call ``call(now_mono_ms)`` at ``mono_ms``, or at once if that has passed."""
        first = not self._waiting or mono_ms < self._waiting[0][0]
        heapq.heappush(self._waiting, (mono_ms, next(self._numbers), call))
        if first:
            self._set()

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
        now = self._now_mono_ms()
        try:
            while self._waiting and self._waiting[0][0] <= now:
                heapq.heappop(self._waiting)[2](now)
        finally:  # a callback that fails must not stop later ones
            if self._waiting:
                self._set()

    def _set(self) -> None:
        # At least 1: zero would disarm the timer.
        at_ns = max(1, int(self._waiting[0][0] * _NS_PER_MS))
        value = _Timespec(at_ns // _NS_PER_S, at_ns % _NS_PER_S)
        spec = _Itimerspec(_Timespec(0, 0), value)
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
