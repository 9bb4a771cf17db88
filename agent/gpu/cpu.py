"""Reads the processors and memory of a host without a GPU, from /proc and /sys."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

from agent.core.accelerators import Reading
from agent.gpu.reader import ReaderUnavailable

_MILLI = 1_000


class CpuReader:
    """All processors as one accelerator. ``root`` is for tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._busy_before, self._total_before = 0, 0

    def open(self) -> None:
        try:
            self._busy_before, self._total_before = self._ticks()
        except (OSError, ValueError) as error:
            raise ReaderUnavailable(f"/proc/stat: {error}") from error

    def read(self) -> Sequence[Reading]:
        try:
            busy, total = self._ticks()
            used_bytes, total_bytes = self._memory_bytes()
        except (OSError, ValueError, KeyError) as error:
            raise ReaderUnavailable(f"/proc: {error}") from error
        passed = total - self._total_before
        ratio = (busy - self._busy_before) / passed if passed > 0 else 0.0
        self._busy_before, self._total_before = busy, total
        return [
            Reading(
                id="cpu",
                index=0,
                name=platform.machine(),
                utilisation_ratio=min(1.0, max(0.0, ratio)),
                memory_used_bytes=used_bytes,
                memory_total_bytes=total_bytes,
                temperature_celsius=self._temperature_celsius(),
            )
        ]

    def close(self) -> None:
        pass

    def _ticks(self) -> tuple[int, int]:
        """Return busy and all ticks since boot. Source: proc(5), /proc/stat."""
        line = (self._root / "proc/stat").read_text().splitlines()[0]
        ticks = [int(word) for word in line.split()[1:9]]
        idle = ticks[3] + ticks[4]
        return sum(ticks) - idle, sum(ticks)

    def _memory_bytes(self) -> tuple[int, int]:
        lines = (self._root / "proc/meminfo").read_text().splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if ":" in line}
        total, available = kib["MemTotal"], kib["MemAvailable"]
        return (total - available) * 1_024, total * 1_024

    def _temperature_celsius(self) -> float | None:
        """Return the hottest thermal zone; many virtual machines have none."""
        found = []
        for zone in sorted((self._root / "sys/class/thermal").glob("thermal_zone*/temp")):
            try:
                found.append(int(zone.read_text()) / _MILLI)
            except (OSError, ValueError):
                continue
        return max(found, default=None)
