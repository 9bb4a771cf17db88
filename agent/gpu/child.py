"""The child process that runs a vendor's library: one line in, one reading as JSON out.

``python -m agent.gpu.child --kind nvml``. It may hang, crash or print anything: the agent sets a
deadline for each answer and validates it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
from typing import TextIO

from agent.core.accelerators import readings_to_json
from agent.gpu.reader import LibraryMissing, ReaderUnavailable, make_reader

EXIT_UNAVAILABLE = 3
_PR_SET_PDEATHSIG = 1
_MAX_REASON_CHARS = 300


def main(argv: list[str] | None = None) -> int:
    """Answer until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m agent.gpu.child")
    parser.add_argument("--kind", required=True)
    kind = parser.parse_args(argv).kind
    _die_with_parent()
    with _private_output() as out:
        return _answer_all(kind, out)


def _answer_all(kind: str, out: TextIO) -> int:
    try:
        reader = make_reader(kind)
        reader.open()
        for _ in sys.stdin:
            _send(out, readings_to_json(reader.read()))
        reader.close()
    except ReaderUnavailable as error:
        reason = str(error)[:_MAX_REASON_CHARS]
        _send(out, {"error": reason, "missing": isinstance(error, LibraryMissing)})
        return EXIT_UNAVAILABLE
    except BrokenPipeError:
        return 0
    return 0


def _send(out: TextIO, answer: dict[str, object]) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()


def _private_output() -> TextIO:
    """Return the pipe to the agent, and redirect what a library prints to the log."""
    pipe = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(pipe, "w", encoding="utf-8")


def _die_with_parent() -> None:
    """Have the kernel kill this process when the agent dies: a hung call cannot see that."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
