"""The program ``edgeforge-coordinator``: ignores SIGHUP first, then imports its command line."""

from __future__ import annotations

from protos.host.hangup import ignore_hangups


def run() -> None:
    """Entry point. SIGHUP is ignored for good: nothing is reloaded."""
    ignore_hangups()
    from coordinator.daemon import run as run_commands  # takes hundreds of milliseconds

    run_commands()
