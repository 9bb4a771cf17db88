"""Ports for processes of tests, claimed as fleets claim theirs."""

from __future__ import annotations

import itertools
import os

from coordinator.devfleet.ports import Ports

_OWNERS = itertools.count()


def free_ports(count: int) -> list[int]:
    """Return ports that are free now and not claimed by another fleet that is starting."""
    ports = Ports(f"test {os.getpid()} {next(_OWNERS)}")
    return [ports.take() for _ in range(count)]
