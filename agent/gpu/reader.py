"""What every kind of reader is, and where the kinds are found.

A kind of somebody else's needs no change here: a distribution that is installed beside the agent
and offers an entry point in the group ``edgeforge.accelerators``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from protos.domain.errors import ConfigInvalid

if TYPE_CHECKING:
    from agent.core.accelerators import Reading

ENTRY_POINT_GROUP = "edgeforge.accelerators"
#: Reads nothing: no child is started.
NONE = "none"
#: Looks for a GPU's device files.
AUTO = "auto"
CPU = "cpu"

_OURS = {
    "nvml": "agent.gpu.nvml:NvmlReader",
    "amdsmi": "agent.gpu.amdsmi:AmdSmiReader",
    CPU: "agent.gpu.cpu:CpuReader",
}
#: Source: the device files that NVIDIA's and AMD's kernel drivers make.
_DEVICE_FILES = {"nvml": "dev/nvidiactl", "amdsmi": "dev/kfd"}


class ReaderUnavailable(Exception):
    """The vendor's library is absent, or its driver does not answer."""


class Reader(Protocol):
    """One vendor's accelerators. Used in the child only; every call may block for ever."""

    def open(self) -> None:
        """Load the library and find the accelerators. Raises: ReaderUnavailable."""

    def read(self) -> Sequence[Reading]:
        """Return one reading of each accelerator. Raises: ReaderUnavailable."""

    def close(self) -> None:
        """Let go of the library."""


def kinds() -> dict[str, EntryPoint]:
    """Return every kind of reader there is; ours cannot be replaced."""
    found = {one.name: one for one in entry_points(group=ENTRY_POINT_GROUP)}
    ours = {
        name: EntryPoint(name=name, value=value, group=ENTRY_POINT_GROUP)
        for name, value in _OURS.items()
    }
    return found | ours


def make_reader(kind: str) -> Reader:
    """Return a reader of ``kind``, not opened yet. Raises: ReaderUnavailable."""
    entry = kinds().get(kind)
    if entry is None:
        raise ReaderUnavailable(f"no reader of kind {kind!r}")
    try:
        factory = getattr(importlib.import_module(entry.module), entry.attr)
    except (ImportError, AttributeError) as error:
        raise ReaderUnavailable(f"the reader of kind {kind!r} cannot be loaded: {error}") from error
    return cast("Reader", factory())


def chosen_kind(configured: str, root: Path = Path("/")) -> str:
    """Return the kind to read with; ``auto`` looks under ``root``. Raises: ConfigInvalid."""
    if configured == AUTO:
        seen = (kind for kind, file in _DEVICE_FILES.items() if os.path.exists(root / file))
        return next(seen, CPU)
    if configured != NONE and configured not in kinds():
        known = ", ".join([AUTO, NONE, *sorted(kinds())])
        raise ConfigInvalid(
            [f"gpu.kind: {configured!r} is none of {known}"],
            "install what offers that kind beside the agent, or choose another",
        )
    return configured
