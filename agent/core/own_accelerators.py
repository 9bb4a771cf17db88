"""Which of a host's accelerators the engine computes on, so that only their faults drain. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.core.accelerators import Reading

#: Every accelerator of the host.
ALL: tuple[str, ...] | None = None
#: Variables that limit what an engine sees, by the order in which they are asked.
#: Source: CUDA C++ Programming Guide, "CUDA Environment Variables"; ROCm documentation,
#: "GPU isolation techniques".
VISIBLE_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
#: A slice of a GPU has an identity of its own, which readings of whole GPUs do not have.
_SLICE = "MIG-"
_MAX_DEVICES = 64


def wanted_devices(
    configured: Sequence[str], environ: Mapping[str, str], *, on_cpu: bool
) -> tuple[str, ...] | None:
    """Return the identities or indexes of the engine's devices; None: all, empty: none of them.

    ``configured`` is ``gpu.devices``; without it the variables of the vendors' runtimes decide.
    """
    if configured:
        return tuple(configured)
    if on_cpu:
        return ()
    for name in VISIBLE_VARIABLES:
        if name not in environ:
            continue
        listed = [part.strip() for part in environ[name].split(",")][:_MAX_DEVICES]
        if any(part.startswith(_SLICE) for part in listed):
            return ALL
        # The runtimes ignore what follows the first device that cannot exist.
        usable = []
        for part in listed:
            if not part or part.startswith("-") or part == "none":
                break
            usable.append(part)
        return tuple(usable)
    return ALL


class OwnAccelerators:
    """Selects the readings of the engine's accelerators.

    An index is resolved to the identity that had it at the first reading, because indexes move
    when an accelerator is lost. With a device that no reading has, all of them are selected.
    """

    def __init__(self, wanted: tuple[str, ...] | None) -> None:
        self._wanted = wanted
        self._ids: frozenset[str] | None = None
        #: Wanted devices that the first reading did not have.
        self.unknown: tuple[str, ...] = ()

    def select(self, readings: Sequence[Reading]) -> tuple[Reading, ...]:
        """Return the readings of the engine's own accelerators."""
        if self._wanted is None:
            return tuple(readings)
        if self._ids is None:
            self._ids = self._resolve(readings)
        if self.unknown:
            return tuple(readings)
        return tuple(one for one in readings if one.id in self._ids)

    def _resolve(self, readings: Sequence[Reading]) -> frozenset[str]:
        assert self._wanted is not None
        found: set[str] = set()
        unknown = []
        for device in self._wanted:
            matches = {one.id for one in readings if _names(device, one)}
            if len(matches) == 1:
                found |= matches
            else:
                unknown.append(device)
        self.unknown = tuple(unknown)
        return frozenset(found)


def _names(device: str, one: Reading) -> bool:
    """Return whether ``device`` is the index, the identity or the start of the identity."""
    if device.isdecimal():
        return int(device) == one.index
    return one.id.startswith(device)
