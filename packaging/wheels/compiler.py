"""Finds a C compiler on the build machine: the system's, or Zig's from PyPI."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path


class NoCompiler(Exception):
    """Nothing here compiles; the message says what to install."""


def find_compiler() -> list[str]:
    """Return the compiler's command: ``$CC``, gcc, or ``ziglang``. Raises: NoCompiler."""
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if not headers.exists():
        raise NoCompiler(
            f"no {headers}: install Python's headers (Debian: apt-get install python3.11-dev), "
            "or build the pure wheel only, with --pure"
        )
    if given := os.environ.get("CC"):
        return shlex.split(given)
    if shutil.which("gcc"):
        return ["gcc"]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise NoCompiler(
        "no C compiler: apt-get install gcc, or pip install ziglang, or build the pure wheel only, "
        "with --pure"
    )
