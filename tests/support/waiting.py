"""Waiting on conditions, never on sleeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE_S = 0.01


def wait_until(condition: Callable[[], T], timeout_s: float, what: str) -> T:
    """Return the first truthy value of ``condition``; fail naming ``what`` after ``timeout_s``.

    The last check is after the deadline, so that a paused machine gets one more chance.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        is_last = time.monotonic() > deadline_s
        if value := condition():
            return value
        if is_last:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(_PAUSE_S)


def within_at_best(limit_s: float, measured_s: Callable[[], float], tries: int = 3) -> None:
    """Fail unless ``measured_s`` returns less than ``limit_s`` once in ``tries``.

    For time limits: a machine that pauses for a moment exceeds one of them, a product
    that is too slow exceeds all.
    """
    took_s: list[float] = []
    while not took_s or took_s[-1] >= limit_s:
        assert len(took_s) < tries, f"not within {limit_s} s, each time: {took_s}"
        took_s.append(measured_s())


def waited_s(condition: Callable[[], object], timeout_s: float, what: str) -> float:
    """Like ``wait_until``; return how long it took."""
    began_s = time.monotonic()
    wait_until(condition, timeout_s, what)
    return time.monotonic() - began_s


async def wait_until_async(
    condition: Callable[[], T | Awaitable[T]], timeout_s: float, what: str
) -> T:
    """Like ``wait_until`` on an event loop; ``condition`` may be async."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        is_last = time.monotonic() > deadline_s
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if is_last:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        await asyncio.sleep(_PAUSE_S)
