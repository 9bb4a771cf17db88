"""The protocol of readers, and the look-up of a reader by its kind.

Other distributions add kinds with an entry point in the group ``edgeforge.accelerators``.
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
#: No accelerator is read and no child is started.
NONE = "none"
#: The kind is chosen by the GPU device files that exist.
AUTO = "auto"
CPU = "cpu"

_BUILT_IN = {
    "nvml": "agent.gpu.nvml:NvmlReader",
    "amdsmi": "agent.gpu.amdsmi:AmdSmiReader",
    CPU: "agent.gpu.cpu:CpuReader",
}
#: Source: the device files that NVIDIA's and AMD's kernel drivers create.
_DEVICE_FILES = {"nvml": "dev/nvidiactl", "amdsmi": "dev/kfd"}


class ReaderUnavailable(Exception):
    """The vendor's library is not installed, or its driver does not answer."""


class LibraryMissing(ReaderUnavailable):
    """The vendor's library, or the reader itself, is not installed on this host."""


class Reader(Protocol):
    """Reads one vendor's accelerators, in the child process: every call may block for ever."""

    def open(self) -> None:
        """Load the library and find the accelerators. Raises: ReaderUnavailable."""

    def read(self) -> Sequence[Reading]:
        """Return one reading of each accelerator. Raises: ReaderUnavailable."""

    def close(self) -> None:
        """Close the library."""


def kinds() -> dict[str, EntryPoint]:
    """Return every kind of reader; the built-in ones cannot be overridden."""
    found = {one.name: one for one in entry_points(group=ENTRY_POINT_GROUP)}
    built_in = {
        name: EntryPoint(name=name, value=value, group=ENTRY_POINT_GROUP)
        for name, value in _BUILT_IN.items()
    }
    return found | built_in


def make_reader(kind: str) -> Reader:
    """Return an unopened reader of ``kind``. Raises: ReaderUnavailable."""
    entry = kinds().get(kind)
    if entry is None:
        raise LibraryMissing(f"no reader of kind {kind!r}")
    try:
        factory = getattr(importlib.import_module(entry.module), entry.attr)
    except (ImportError, AttributeError) as error:
        raise LibraryMissing(f"the reader of kind {kind!r} cannot be loaded: {error}") from error
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
