"""The program ``edgeforge-agent``: ignores SIGHUP first, then imports its command line."""

from __future__ import annotations

from protos.host.hangup import ignore_hangups


def run() -> None:
    """Entry point."""
    ignore_hangups()
    from agent.cli import run as run_commands  # takes hundreds of milliseconds

    run_commands()
