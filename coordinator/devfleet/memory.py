"""Checks that this machine has the memory for the engines before they are started."""

from __future__ import annotations

import re
from pathlib import Path

from protos.domain.errors import EdgeForgeError

_MIB = 1024 * 1024
#: One vLLM on a CPU: 1 GiB of KV cache, the model, three Python processes. Measured.
ENGINE_MIB = 3_000
#: Coordinator, five agents, the relay.
FLEET_MIB = 700

#: Page cache not used recently: the kernel frees it when memory is needed.
_RECLAIMABLE = re.compile(r"^inactive_file (\d+)$", re.MULTILINE)
_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)


def available_mib(root: Path = Path("/")) -> int | None:
    """Return the memory usable without swapping, within container limits; None if unknown."""
    try:
        found = _AVAILABLE.search((root / "proc/meminfo").read_text(encoding="ascii"))
    except OSError:
        return None
    if found is None:
        return None
    free_mib = int(found.group(1)) // 1024
    group = root / "sys/fs/cgroup"
    try:
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        files = _RECLAIMABLE.search((group / "memory.stat").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return free_mib  # no group, or "max"
    if files is not None:
        used -= int(files.group(1))
    return min(free_mib, max(0, limit - used) // _MIB)


def require_memory(engines: int, free_mib: int | None) -> None:
    """Raise EdgeForgeError with the number that fits, unless ``engines`` fit into ``free_mib``."""
    needed_mib = FLEET_MIB + engines * ENGINE_MIB
    if not engines or free_mib is None or free_mib >= needed_mib:
        return
    fitting = max(0, free_mib - FLEET_MIB) // ENGINE_MIB
    attach = "attach a server that already runs: edgeforge up --engine-url URL"
    fewer = f"start fewer: edgeforge up --detach --engines {fitting} (make up ENGINES={fitting})"
    raise EdgeForgeError(
        f"{engines} vLLM {'engine needs' if engines == 1 else 'engines need'} about"
        f" {needed_mib / 1024:.1f} GiB of memory, {free_mib / 1024:.1f} GiB are free",
        f"close something, or {fewer if fitting else attach}",
    )
