"""Waiting on conditions, never on sleeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE_S = 0.01


def wait_until(condition: Callable[[], T], timeout_s: float, what: str) -> T:
    """Return the first truthy value of ``condition``; fail naming ``what`` after ``timeout_s``."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(_PAUSE_S)


async def wait_until_async(
    condition: Callable[[], T | Awaitable[T]], timeout_s: float, what: str
) -> T:
    """Like ``wait_until`` on an event loop; ``condition`` may be async."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        await asyncio.sleep(_PAUSE_S)
