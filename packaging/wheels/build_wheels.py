"""Builds the wheels: a pure one, and one whose request path is compiled for this Python and system.

    packaging/build-wheels [--out dist] [--pure]

Beside them go the requirements with hashes, ``install-host``, the engine's installer and the units:
the folder is all that a host needs of us, and ``SHA256SUMS`` has the digest of each file.

All work is done on a copy of the sources in ``.cache/wheels``, named by the digest of everything
that the result depends on; a second build of the same is a copy. The compiled wheel has no source
of a compiled module, so that an object beside an edited source cannot be. It is the pure wheel with
those modules replaced, and a tag that says where it runs; ``pip`` takes the pure one elsewhere.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import retag
from compiler import NoCompiler, find_compiler
from native_classes import rewrite

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "wheels"
PACKAGES = ("agent", "coordinator", "protos")
#: What the pure wheel is made of, beside the packages.
_OTHERS = ("pyproject.toml", "README.md", "LICENSE")
#: In the wheel beside ``protos/build_info.py``, which shows it.
STAMP = "protos/sources.sha256"
#: Builds that are kept: the newest, and those of other branches.
_KEPT_BUILDS = 3
#: What hosts need beside the wheels -> its place in the folder.
HOST_FILES = {
    "packaging/install-host": ".",
    "packaging/requirements/agent.txt": "requirements",
    "packaging/requirements/amd.txt": "requirements",
    "packaging/requirements/cli.txt": "requirements",
    "packaging/requirements/coordinator.txt": "requirements",
    "packaging/requirements/nvidia.txt": "requirements",
    "packaging/requirements/otlp.txt": "requirements",
    "packaging/engine/install": "engine",
    "packaging/engine/requirements-cpu.txt": "engine",
    "packaging/engine/requirements-cuda.txt": "engine",
    "packaging/engine/requirements-torch-cpu.txt": "engine",
    "docs/OPERATIONS.md": "docs",
    "docs/CLI.md": "docs",
    "docs/CONFIG.md": "docs",
    "packaging/systemd/edgeforge-agent.service": "systemd",
    "packaging/systemd/edgeforge-coordinator.service": "systemd",
}
_MYPY_INI = "[mypy]\nignore_missing_imports = true\n"


def compiled_modules(root: Path = ROOT) -> list[str]:
    """Return the paths of the modules that are compiled, as pyproject.toml says. Sorted."""
    said = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["edgeforge"]["compiled"]
    found = {
        path.relative_to(root).as_posix()
        for folder in said["folders"]
        for path in (root / folder).glob("*.py")
        if path.name != "__init__.py"
    } | set(said["modules"])
    unknown = [path for path in said["interpreted"] if path not in found]
    if unknown:
        raise SystemExit(f"build-wheels: not among the compiled folders: {unknown}")
    return sorted(found - set(said["interpreted"]))


def sources_digest(root: Path = ROOT) -> str:
    """Return the digest of every source of the packages."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            data = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def build_digest(sources: str, compiler: str) -> str:
    """Return the digest of what the wheels depend on."""
    digest = hashlib.sha256(f"{sources}\0{compiler}\0{sys.version}".encode())
    for path in [*sorted(Path(__file__).parent.glob("*.py")), ROOT / "constraints.txt"]:
        digest.update(path.read_bytes())
    for name in _OTHERS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def build_pure(work: Path, sources: str) -> Path:
    """Return the pure wheel of a copy of the sources, stamped with their digest."""
    tree = work / "tree"
    copy_sources(tree)
    (tree / STAMP).write_text(sources + "\n")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(work / "pure")]
    subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = (work / "pure").glob("*.whl")
    return wheel


def build_compiled(work: Path, pure: Path, compiler: list[str]) -> Path:
    """Return the compiled wheel made of ``pure``."""
    tree, objects = work / "rewritten", work / "objects"
    copy_sources(tree)
    modules = compiled_modules()
    for module in modules:
        path = tree / module
        path.write_text(rewrite(path.read_text()))
    runtime = Path(__file__).with_name("native_dataclass.py")
    shutil.copy(runtime, tree / "protos" / runtime.name)
    (tree / "mypy.ini").write_text(_MYPY_INI)
    script = Path(__file__).with_name("compile_modules.py")
    command = [sys.executable, str(script), str(tree), str(objects), *modules]
    environment = os.environ | {
        "CC": " ".join(compiler),
        "LDSHARED": f"{' '.join(compiler)} -shared",
    }
    ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise SystemExit(f"{ended.stdout}{ended.stderr}build-wheels: the modules do not compile")
    made = {path.relative_to(objects).as_posix(): path for path in objects.rglob("*.so")}
    made[f"protos/{runtime.name}"] = runtime
    return retag.with_objects(pure, made, modules, work / "compiled")


def copy_sources(tree: Path) -> None:
    """Copy the packages, without what Python has left in them."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=ignored)
    for name in _OTHERS:
        shutil.copy(ROOT / name, tree / name)


def build(*, pure_only: bool) -> list[Path]:
    """Return the wheels, from the cache where their sources have not changed."""
    compiler = [] if pure_only else find_compiler()
    sources = sources_digest()
    digest = build_digest(sources, "" if pure_only else " ".join(compiler))
    done = CACHE / digest[:32]
    if not done.exists():
        work = CACHE / f"{digest[:32]}.part"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        wheels = [build_pure(work, sources)]
        if not pure_only:
            wheels.append(build_compiled(work, wheels[0], compiler))
        (work / "wheels").mkdir()
        for wheel in wheels:
            shutil.move(wheel, work / "wheels" / wheel.name)
        for leftover in ("tree", "rewritten", "objects", "pure", "compiled"):
            shutil.rmtree(work / leftover, ignore_errors=True)
        work.rename(done)
    os.utime(done)
    for old in sorted(CACHE.iterdir(), key=lambda path: -path.stat().st_mtime)[_KEPT_BUILDS:]:
        shutil.rmtree(old, ignore_errors=True)
    return sorted((done / "wheels").glob("*.whl"))


def complete(out: Path, wheels: list[Path]) -> None:
    """Put ``wheels`` and all else that a host needs into ``out``, with their digests."""
    for old in out.glob("edgeforge*.whl"):
        old.unlink()
    files = {wheel.name: wheel for wheel in wheels}
    for source, place in HOST_FILES.items():
        files[(Path(place) / Path(source).name).as_posix()] = ROOT / source
    sums = []
    for name, source in sorted(files.items()):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, out / name)
        sums.append(f"{hashlib.sha256((out / name).read_bytes()).hexdigest()}  {name}\n")
    (out / "SHA256SUMS").write_text("".join(sums))


def main() -> None:
    parser = argparse.ArgumentParser(prog="build-wheels", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the wheels go")
    parser.add_argument("--pure", action="store_true", help="the pure wheel only: no compiler")
    options = parser.parse_args()
    began_s = time.perf_counter()
    try:
        wheels = build(pure_only=options.pure)
    except NoCompiler as error:
        raise SystemExit(f"build-wheels: {error}") from None
    complete(options.out, wheels)
    for wheel in wheels:
        print(f"{options.out / wheel.name} ({wheel.stat().st_size / 1e6:.1f} MB)")
    print(f"built in {time.perf_counter() - began_s:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
