"""Writes requirements with hashes: what hosts, developers and engines install.

    packaging/lock [--engine]

Versions are those of ``constraints.txt`` (and of ``packaging/engine/constraints-*.txt`` with
``--engine``); this adds the SHA-256 of every wheel for the systems below, so that pip takes no
other file, whatever index or mirror it is from. No wheel is downloaded: an index states the hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "packaging" / "requirements"
ENGINE = ROOT / "packaging" / "engine"
CONSTRAINTS = ROOT / "constraints.txt"
UV = ROOT / ".cache" / "uv" / "bin" / "uv"

#: File -> extras of pyproject.toml whose packages, and the product's own, are in it.
PRODUCT: dict[str, tuple[str, ...]] = {
    "cli": (),
    "agent": ("agent",),
    "coordinator": ("coordinator",),
    "dev": ("agent", "coordinator", "dev"),
}
#: File -> packages that are installed beside those.
BESIDE = {"nvidia": "nvidia", "amd": "amd", "otlp": "otlp"}
#: Files of single tools.
TOOLS = {"compiler": ["ziglang"], "uv": ["uv"]}
ENGINES = {"cpu": "constraints-cpu.txt", "cuda": "constraints-cuda.txt"}

_PYTHONS = ("cp311", "cp312", "cp313")
_MACHINES = ("x86_64", "aarch64")
#: Published as source only, of Python alone: pip builds it anywhere. No host installs it.
_FROM_SOURCE = frozenset({"localstripe"})


def main() -> None:
    parser = argparse.ArgumentParser(prog="lock", description=__doc__.splitlines()[0])
    parser.add_argument("--engine", action="store_true", help="the engine environments' too")
    options = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for name, wanted in PRODUCT.items():
        packages = project["dependencies"] + [one for extra in wanted for one in extras[extra]]
        write(HERE / f"{name}.txt", packages)
    for name, extra in BESIDE.items():
        write(HERE / f"{name}.txt", extras[extra])
    for name, packages in TOOLS.items():
        write(HERE / f"{name}.txt", packages)
    for name, constraints in ENGINES.items() if options.engine else ():
        text = (ENGINE / constraints).read_text()
        packages = [line for line in text.splitlines() if line and not line.startswith("#")]
        links = pip_find_links() if name == "cpu" else ""
        lines = locked(packages, None, "--no-deps", links)
        text = "".join(lines)
        (ENGINE / f"requirements-{name}.txt").write_text(header(packages, None) + text)
        if name == "cpu":
            (torch,) = [line for line in lines if line.startswith("torch==")]
            (ENGINE / "requirements-torch-cpu.txt").write_text(header(packages, None) + torch)


def write(path: Path, packages: list[str]) -> None:
    lines = locked(packages, CONSTRAINTS, "--universal")
    path.write_text(header(packages, CONSTRAINTS) + "".join(lines))


def header(packages: list[str], constraints: Path | None) -> str:
    """Return the first lines of a file, with the digest of what it was made from."""
    digest = inputs_digest(packages, constraints)
    return f"# Made by packaging/lock; do not edit. Inputs: {digest}\n"


def inputs_digest(packages: list[str], constraints: Path | None) -> str:
    text = json.dumps(sorted(packages)) + (constraints.read_text() if constraints else "")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def locked(
    packages: list[str], constraints: Path | None, how: str, find_links: str = ""
) -> list[str]:
    """Return each requirement with its hashes, and those it needs unless ``--no-deps``."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.in"
        wanted.write_text("\n".join(packages) + "\n")
        made = Path(folder) / "pylock.toml"
        command = [str(UV), "pip", "compile", "--quiet", how, "--python-version", "3.11"]
        if how == "--no-deps":
            command += ["--python-platform", "x86_64-manylinux_2_40"]
        if constraints:
            command += ["--constraint", str(constraints)]
        if find_links:
            command += ["--find-links", find_links]
        subprocess.run([*command, "--output-file", str(made), str(wanted)], check=True)
        found = tomllib.loads(made.read_text())["packages"]
    return [requirement(package) for package in found if serves_linux(package.get("marker", ""))]


def pip_find_links() -> str:
    """Return a folder of wheels that pip is configured with, if any: torch's CPU build."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def serves_linux(marker: str) -> bool:
    return not re.search(r"sys_platform == '(win32|darwin|emscripten)'", marker)


def requirement(package: dict[str, object]) -> str:
    name, version = package["name"], package["version"]
    wheels = package.get("wheels", [])
    assert isinstance(wheels, list)
    hashes = sorted({wheel["hashes"]["sha256"] for wheel in wheels if is_ours(file_of(wheel))})
    if not hashes and name in _FROM_SOURCE:
        sdist = package["sdist"]
        assert isinstance(sdist, dict)
        hashes = [sdist["hashes"]["sha256"]]
    if not hashes:
        raise SystemExit(f"lock: {name} {version} has no wheel for Linux and Python 3.11 to 3.13")
    return (
        " \\\n".join([f"{name}=={version}", *(f"    --hash=sha256:{one}" for one in hashes)]) + "\n"
    )


def file_of(wheel: dict[str, object]) -> str:
    return str(wheel.get("name") or str(wheel.get("url") or wheel.get("path")).rpartition("/")[2])


def is_ours(file: str) -> bool:
    """Report whether a wheel is for one of our Pythons on one of our machines."""
    python, abi, platform = file.removesuffix(".whl").split("-")[-3:]
    systems = [one for one in platform.split(".") if one.startswith(("manylinux", "linux"))]
    if platform != "any" and not any(one.endswith(_MACHINES) for one in systems):
        return False
    if abi == "abi3":
        return any(int(tag[3:] or 0) <= 13 for tag in python.split(".") if tag.startswith("cp3"))
    if abi == "none":
        return any(tag.startswith("py") for tag in python.split(".")) or python in _PYTHONS
    return python in _PYTHONS and abi in _PYTHONS


if __name__ == "__main__":
    main()
