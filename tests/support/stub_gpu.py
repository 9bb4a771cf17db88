"""Vendor libraries that a test controls, compiled from C; the vendors' real Python code calls them.

>>> stub = build_nvml(tmp_path)
>>> stub.set(xid=79, xid_number=1)  # the next reading reports XID 79
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

_SOURCES = Path(__file__).parent / "stub_gpus"
_BOUND = re.compile(r"_libraries\['libamd_smi\.so'\]\.(\w+)")
_DEFINED = re.compile(r"^int (amdsmi_\w+)\(", re.MULTILINE)


@dataclass
class StubLibrary:
    """A library in ``folder``, and the file that controls it."""

    folder: Path
    orders: dict[str, int] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to load it instead of the vendor's: set before it starts."""
        return {
            "LD_LIBRARY_PATH": str(self.folder),
            "STUB_GPU_CONTROL": str(self.folder / "control"),
        }

    def set(self, **orders: int) -> None:
        """Change what it does from its next call on; see the C sources for the words."""
        self.orders |= orders
        written = self.folder / "control.new"
        written.write_text("".join(f"{name} {value}\n" for name, value in self.orders.items()))
        written.rename(self.folder / "control")


def build_nvml(folder: Path) -> StubLibrary:
    """Compile ``libnvidia-ml.so.1``; pynvml loads it by that name."""
    return _build(folder / "nvml", "libnvidia-ml.so.1", (_SOURCES / "nvml.c").read_text())


def build_amdsmi(folder: Path) -> StubLibrary:
    """Compile ``libamd_smi.so`` with every symbol that the binding wants at its import."""
    source = (_SOURCES / "amdsmi.c").read_text()
    defined = set(_DEFINED.findall(source))
    missing = sorted(bound_symbols() - defined)
    source += "".join(f"int {name}(void) {{ return NOT_SUPPORTED; }}\n" for name in missing)
    return _build(folder / "amdsmi", "libamd_smi.so", source)


def bound_symbols() -> set[str]:
    """Return what amdsmi's own wrapper binds; the package cannot be imported without a library."""
    spec = importlib.util.find_spec("amdsmi")
    assert spec is not None, "amdsmi is not installed: pip install -e .[dev]"
    assert spec.submodule_search_locations, "amdsmi is no package"
    wrapper = Path(spec.submodule_search_locations[0]) / "amdsmi_wrapper.py"
    return set(_BOUND.findall(wrapper.read_text()))


def compiler() -> list[str]:
    """Return a C compiler's command: the host's, or that of a package where there is none."""
    found = shutil.which("cc") or shutil.which("gcc")
    return [found] if found else [sys.executable, "-m", "ziglang", "cc"]


def _build(folder: Path, name: str, source: str) -> StubLibrary:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stub.c").write_text(source)
    argv = [*compiler(), "-shared", "-fPIC", "-w", "-I", str(_SOURCES), "-o", str(folder / name)]
    done = subprocess.run(
        [*argv, str(folder / "stub.c")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    stub = StubLibrary(folder)
    stub.set()
    return stub
