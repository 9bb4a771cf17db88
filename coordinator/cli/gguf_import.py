"""Turns a GGUF file into a folder of safetensors, in the engine's environment."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from protos.domain.errors import InvalidRequest, NoEngineEnvironment

Report = Callable[[str], None]

#: Longest conversion: a start, and reading and writing at 10 MB a second.
_CONVERT_BASE_S = 600.0
_CONVERT_BYTES_PER_S = 10_000_000
_MAX_LINE_BYTES = 64 * 1024
_CONVERTER = Path(__file__).parent.parent / "blobs" / "gguf_to_safetensors.py"


def dequantise(gguf: Path, target: Path, engine_venv: Path, report: Report) -> Path:
    """Turn a GGUF file into a safetensors directory. Raises: InvalidRequest with the reason.

    Runs the engine environment's Python, which has torch; the product environment has not.
    """
    python = engine_venv / "bin" / "python"
    if not os.access(python, os.X_OK):
        raise NoEngineEnvironment(
            [f"a GGUF file is dequantised by the engine environment, and {python} is not there"],
            "install it: packaging/engine/install, or name it with --engine-venv",
        )
    report(f"dequantising {gguf.name}")
    wall_s = _CONVERT_BASE_S + gguf.stat().st_size / _CONVERT_BYTES_PER_S
    try:
        _convert(python, gguf, target, wall_s, report)
    finally:
        # A killed converter leaves what it had written.
        shutil.rmtree(target.with_name(target.name + ".partial"), ignore_errors=True)
    return target


def _convert(python: Path, gguf: Path, target: Path, wall_s: float, report: Report) -> None:
    """Run the converter, which limits itself, for ``wall_s`` at most. Raises: InvalidRequest."""
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [str(python.absolute()), str(_CONVERTER), str(gguf.absolute()), str(target)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        late = threading.Event()

        def end_late() -> None:
            late.set()
            _kill(child)

        timer = threading.Timer(wall_s, end_late)
        timer.start()
        try:
            assert child.stdout is not None
            with child.stdout as output:
                last = _follow(output, report)
            returncode = child.wait()
        finally:
            timer.cancel()
            _kill(child)
            child.wait()
        if returncode == 0:
            return
        if isinstance(error := last.get("error"), dict):
            raise InvalidRequest(f"{gguf.name}: {error['message']}", error.get("hint", ""))
        raise InvalidRequest(
            f"{gguf.name}: the conversion {_end_of(returncode, late.is_set(), wall_s, log)}",
            "its limits are in docs/OPERATIONS.md; safetensors need no conversion",
        )


def _follow(output: IO[bytes], report: Report) -> dict[str, object]:
    """Report each new stage; return the last line."""
    last: dict[str, object] = {}
    stage = ""
    while line := output.readline(_MAX_LINE_BYTES):
        with contextlib.suppress(ValueError, RecursionError):
            content = json.loads(line)
            last = content if isinstance(content, dict) else {}
        if last.get("stage") not in (None, stage, "done"):
            stage = str(last["stage"])
            report(f"  {stage}")
    return last


def _end_of(returncode: int, is_late: bool, wall_s: float, log: IO[bytes]) -> str:
    if is_late:
        return f"took longer than {wall_s:.0f} s"
    if returncode == -signal.SIGXCPU:
        return "took more processor time than a file of its size may"
    if returncode == -signal.SIGXFSZ:
        return "wrote more than a file of its size may"
    log.seek(0)
    said = " ".join(log.read().decode(errors="replace").split())
    return f"ended with exit {returncode}: {said[-300:]}"


def _kill(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
