"""The check of memory, and its message."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.devfleet.memory import available_mib, require_memory
from protos.domain.errors import EdgeForgeError


def machine(
    root: Path, available_kib: int, limit: str = "", used: str = "", files: int = 0
) -> Path:
    (root / "proc").mkdir()
    text = f"MemTotal:       99 kB\nMemAvailable:   {available_kib} kB\n"
    (root / "proc/meminfo").write_text(text)
    if limit:
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "sys/fs/cgroup/memory.max").write_text(limit + "\n")
        (root / "sys/fs/cgroup/memory.current").write_text(used + "\n")
        stat = f"anon 1\ninactive_file {files}\nactive_file 1\n"
        (root / "sys/fs/cgroup/memory.stat").write_text(stat)
    return root


def test_available_memory_is_read_from_the_kernel(tmp_path: Path) -> None:
    assert available_mib(machine(tmp_path, 8_192_000)) == 8_000


def test_a_containers_limit_bounds_the_available_memory(tmp_path: Path) -> None:
    root = machine(tmp_path, 8_192_000, limit=str(2 * 1024**3), used=str(1024**3))
    assert available_mib(root) == 1_024


def test_inactive_page_cache_counts_as_available(tmp_path: Path) -> None:
    gib = 1024**3
    root = machine(tmp_path, 8_192_000, limit=str(4 * gib), used=str(3 * gib), files=2 * gib)
    assert available_mib(root) == 3_072


def test_a_container_without_a_limit_has_the_hosts_memory(tmp_path: Path) -> None:
    assert available_mib(machine(tmp_path, 8_192_000, limit="max", used="1")) == 8_000


def test_unknown_memory_is_not_checked(tmp_path: Path) -> None:
    assert available_mib(tmp_path) is None
    require_memory(3, None)


def test_three_engines_on_a_small_machine_are_refused_with_the_number_that_fits() -> None:
    with pytest.raises(EdgeForgeError, match=r"3 vLLM engines need about 9\.5 GiB") as refused:
        require_memory(3, 6_900)
    assert "--engines 2" in (refused.value.hint or "")
    require_memory(2, 6_900)


def test_where_none_fits_the_hint_is_to_attach_a_server() -> None:
    with pytest.raises(EdgeForgeError, match="1 vLLM engine needs") as refused:
        require_memory(1, 2_000)
    assert "--engine-url" in (refused.value.hint or "")


def test_no_engine_needs_no_memory() -> None:
    require_memory(0, 1)
