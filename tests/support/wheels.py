"""The modules that build the wheels, which are in no package: ``packaging/wheels``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
WHEELS = ROOT / "packaging" / "wheels"


def wheel_module(name: str) -> Any:
    """Return a module of ``packaging/wheels``; they import each other by their names."""
    if str(WHEELS) not in sys.path:
        sys.path.append(str(WHEELS))
    return importlib.import_module(name)


def run_module(name: str, text: str) -> dict[str, Any]:
    """Run the module ``text`` under ``name``, and return its names.

    Frozen classes are not: only a compiled constructor can set the fields of one.
    """
    runtime = wheel_module("native_dataclass")
    runtime._IF_FROZEN = ()
    module = sys.modules[name] = ModuleType(name)
    with patch.dict(sys.modules, {"protos.native_dataclass": runtime}):
        exec(compile(text, name, "exec"), module.__dict__)
    return module.__dict__
