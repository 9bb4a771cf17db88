"""An agent whose wall clock is as many milliseconds ahead as a file says, which a test rewrites.

    python tests/support/jumping_agent.py OFFSET_FILE serve --config FILE

A process like any other but for ``time.time`` and ``time.time_ns``: its monotonic clock, its event
loop and its timers are the kernel's.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

_NS_PER_MS = 1_000_000


def main() -> None:
    """Replace the wall clock, then run the agent's own command line."""
    offset_file = Path(sys.argv.pop(1))
    real_ns = time.time_ns

    def jumped_ns() -> int:
        return real_ns() + int(offset_file.read_text() or "0") * _NS_PER_MS

    time.time_ns = jumped_ns
    time.time = lambda: jumped_ns() / 1e9

    from agent.cli import run

    run()


if __name__ == "__main__":
    main()
