"""SIGHUP before a program is ready for it: by default it would end the process.

Its entry point installs this before it imports anything large, since `systemctl reload` and a
closing terminal do not wait. Children get the default again, as it is a handler and not SIG_IGN.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


def ignore_hangups() -> None:
    """Do nothing on SIGHUP; a program that reloads on it replaces this once it can."""
    signal.signal(signal.SIGHUP, _ignore)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass
