"""Makes a wheel with compiled modules of a pure one. Source: PyPA, binary distribution format."""

from __future__ import annotations

import base64
import hashlib
import re
import sysconfig
import zipfile
from pathlib import Path

#: Names of the C library's versions that an object needs.
_NEEDED = re.compile(rb"GLIBC_(\d+)\.(\d+)")
_OLDEST_GLIBC = (2, 17)
_PYTHON_TAG = f"cp{sysconfig.get_python_version().replace('.', '')}"


def with_objects(pure: Path, files: dict[str, Path], replaced: list[str], folder: Path) -> Path:
    """Return a wheel in ``folder`` that has ``files`` in place of the modules ``replaced``."""
    folder.mkdir()
    tag = f"{_PYTHON_TAG}-{_PYTHON_TAG}-{platform_tag(list(files.values()))}"
    name, version, *_ = pure.name.split("-")
    wheel = folder / f"{name}-{version}-{tag}.whl"
    record = f"{name}-{version}.dist-info/RECORD"
    rows = []
    with zipfile.ZipFile(pure) as old, zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            if entry in replaced or entry == record:
                continue
            data = old.read(entry)
            if entry.endswith(".dist-info/WHEEL"):
                data = retagged(data, tag)
            rows.append(_add(new, entry, data))
        for entry, path in sorted(files.items()):
            rows.append(_add(new, entry, path.read_bytes()))
        new.writestr(record, "".join(rows) + f"{record},,\n")
    return wheel


def retagged(metadata: bytes, tag: str) -> bytes:
    """Return the file WHEEL of a wheel with objects for ``tag``."""
    lines = [
        line for line in metadata.decode().splitlines() if not line.startswith(("Tag:", "Root"))
    ]
    return "\n".join([*lines, "Root-Is-Purelib: false", f"Tag: {tag}", ""]).encode()


def platform_tag(objects: list[Path]) -> str:
    """Return the tag of systems whose C library has what ``objects`` need. Source: PEP 600."""
    needed = [_OLDEST_GLIBC]
    for path in objects:
        found = _NEEDED.findall(path.read_bytes())
        needed += [(int(major), int(minor)) for major, minor in found]
    major, minor = max(needed)
    machine = sysconfig.get_platform().rpartition("-")[2]
    return f"manylinux_{major}_{minor}_{machine}"


def _add(wheel: zipfile.ZipFile, entry: str, data: bytes) -> str:
    """Write ``data`` and return its row of the record."""
    info = zipfile.ZipInfo(entry)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (0o755 if entry.endswith(".so") else 0o644) << 16
    wheel.writestr(info, data)
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{entry},sha256={digest},{len(data)}\n"
