"""Customers' clients, installed once each under ``.cache/clients`` and kept until a pin changes.

A client that cannot be installed skips its tests by name; the reason is its installer's.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "clients"
INSTALL_TIMEOUT_S = 240.0
#: For a module whose first test may have to install.
INSTALLING = pytest.mark.timeout(INSTALL_TIMEOUT_S + 180)
#: Where the engine environment is, as for ``edgeforge up``.
ENGINE_VENV = "EDGEFORGE_ENGINE_VENV"


def skip(client: str, why: str) -> NoReturn:
    """Skip the test that asked for ``client``."""
    pytest.skip(f"{client} cannot be installed here: {why}")


def tool(client: str, program: str) -> str:
    """Return where a program of the host is."""
    found = shutil.which(program)
    return found if found is not None else skip(client, f"no {program} on this host")


def python_client(client: str) -> Path:
    """Return the ``bin`` of the environment that holds ``requirements/CLIENT.txt``."""
    if (why := _python_failure(client)) is not None:
        skip(client, why)
    return CACHE / client / "bin"


def python_client_with_torch(client: str) -> Path:
    """Return the ``bin`` of an environment that has PyTorch from the engine environment.

    PyTorch of the package index comes with 5 GB of libraries for GPUs.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = Path("lib") / version / "site-packages"
    engine_venv = (ROOT / os.environ.get(ENGINE_VENV, ".venv-engine")).resolve()
    if not (engine_venv / packages / "torch").is_dir():
        skip(client, f"it needs PyTorch, and {engine_venv.name} of {version} has none")
    bin_dir = python_client(client)
    (bin_dir.parent / packages / "torch.pth").write_text(f"{engine_venv / packages}\n")
    return bin_dir


def node_client(client: str) -> Path:
    """Return the folder with the ``node_modules`` of ``node/package-lock.json``."""
    tool(client, "node")
    tool(client, "npm")
    if (why := _node_failure()) is not None:
        skip(client, why)
    return CACHE / "node"


@cache
def _python_failure(client: str) -> str | None:
    requirements = HERE / "requirements" / f"{client}.txt"
    where = CACHE / client
    pip = [str(where / "bin" / "pip"), "install", "--quiet", "--no-deps", "--no-compile"]
    make = [sys.executable, "-m", "venv", str(where)]
    return install(where, [requirements], [make, [*pip, "-r", str(requirements)]])


@cache
def _node_failure() -> str | None:
    pins = [HERE / "node" / name for name in ("package.json", "package-lock.json")]
    copies = [["cp", str(pin), "."] for pin in pins]
    npm = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    return install(CACHE / "node", pins, [*copies, npm])


def install(
    where: Path,
    pins: list[Path],
    steps: list[list[str]],
    timeout_s: float = INSTALL_TIMEOUT_S,
) -> str | None:
    """Fill ``where`` by ``steps`` unless it holds what ``pins`` say; return why it failed.

    ``timeout_s`` is for all steps together.
    """
    ends_s = time.monotonic() + timeout_s
    with _exclusive(where):
        stamp = where / ".installed"
        content = b"".join(pin.read_bytes() for pin in pins)
        digest = hashlib.sha256(content + sys.version.encode()).hexdigest()
        if stamp.is_file() and stamp.read_text() == digest:
            return None
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True)
        for argv in steps:
            left_s = ends_s - time.monotonic()
            if (why := _failure_of(argv, where, left_s)) is not None:
                return why
        stamp.write_text(digest)
    return None


def _failure_of(argv: list[str], folder: Path, left_s: float) -> str | None:
    """Run an installer; return the end of what it said if it failed."""
    try:
        done = subprocess.run(
            argv, cwd=folder, capture_output=True, text=True, timeout=left_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{Path(argv[0]).name} took more than the {left_s:.3g} s that were left"
    if done.returncode == 0:
        return None
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"{Path(argv[0]).name} ended with {done.returncode}"


@contextmanager
def _exclusive(where: Path) -> Iterator[None]:
    """One installer of ``where`` at a time, across processes."""
    where.parent.mkdir(parents=True, exist_ok=True)
    with where.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run_client(
    argv: Sequence[str | Path],
    folder: Path,
    *,
    timeout_s: float = 90.0,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Run a client in ``folder``, which is its home too, with nothing of this host's environment.

    It sends no telemetry, looks for no update, and reads no catalogue from elsewhere.
    """
    quiet = {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "DO_NOT_TRACK": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "*",
    }
    return subprocess.run(
        [str(one) for one in argv],
        cwd=folder,
        env=quiet | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
