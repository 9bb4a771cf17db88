"""What every test gets: marks by folder, no sockets outside of ``integration``, plain signals.

Property tests see the same examples in every run, and no clock, so that whoever changes nothing
meets no failure. ``--hypothesis-profile=search`` draws many others.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from protos.build_info import build_info

_HERE = Path(__file__).parent
#: Folders whose tests take every core, or change what the machine has only once.
_ALONE = frozenset({"engine_real", "packaging"})

settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "search", max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


def pytest_configure() -> None:
    """Undo what a shell does to commands in the background: they and theirs ignore interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def pytest_report_header() -> str:
    """Say which build is tested. Ends a run that was to test the other one."""
    build, expected = build_info(), os.environ.get("EDGEFORGE_EXPECTED_BUILD", "interpreted")
    if build.kind != expected:
        pytest.exit(f"edgeforge {build} is imported, and {expected} was to be tested", 2)
    return f"edgeforge {build}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        room = item.path.relative_to(_HERE).parts[0]
        if room in ("integration", "bench", "clients"):
            item.add_marker(pytest.mark.integration)
        else:
            item.add_marker(pytest.mark.disable_socket)
        if "engine_real" in item.path.parts:
            item.add_marker(pytest.mark.real_engine)
        if not _ALONE.isdisjoint(item.path.parts):
            item.add_marker(pytest.mark.alone)
