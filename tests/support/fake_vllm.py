"""A fake engine *environment*: what ``packaging/engine/install`` makes, without the 3 GB.

``fake_environment(folder, **fields of Manner)`` writes ``folder/bin/python``, which answers to
``-m vllm.entrypoints.openai.api_server --uds ...`` like vLLM does, or to
``-P agent/engine/preimport.py --uds ...``: a fake engine (``tests.support.fake_engine``) with
children and grandchildren of its own. Call it again to change the manner of
the next start. ``family(folder)`` lists everything that is alive of it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from agent.engine import preimport
from tests.support import fake_engine

ROOT = Path(__file__).parents[2]
MANNER_VARIABLE = "FAKE_VLLM_MANNER"

# Deaf to SIGTERM, as vLLM's worker is while it computes.
_CHILD = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
depth, detached = int(sys.argv[2]), sys.argv[3] == "detached"
if detached:
    os.setsid()
if depth > 1:
    subprocess.Popen([sys.executable, "-S", "-c", sys.argv[4], sys.argv[1], str(depth - 1),
                      sys.argv[3], sys.argv[4]])
time.sleep(3600)
"""


@dataclasses.dataclass
class Manner:
    """How it starts and ends."""

    #: Each with a child of its own.
    children: int = 2
    #: The children leave the session, as a daemon would.
    detached: bool = False
    #: Ends with this code before it listens.
    exit_code: int | None = None
    #: Says so many lines of 100 bytes first.
    log_lines: int = 3
    #: Does not end on SIGTERM, as vLLM does not while a stream is open.
    deaf: bool = False
    #: Never listens.
    mute: bool = False
    #: Fields of ``fake_engine.Behaviour`` from the first request on.
    first_behaviour: dict[str, object] = dataclasses.field(default_factory=dict)


def fake_environment(folder: Path, **manner: object) -> Path:
    """Make, or change, the environment at ``folder`` and return it."""
    described = Manner(**manner)  # type: ignore[arg-type]
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    path = folder / "manner.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(dataclasses.asdict(described)))
    partial.replace(path)
    python = folder / "bin" / "python"
    if not python.exists():
        python.write_text(
            "#!/bin/sh\n"
            f"export PYTHONPATH='{ROOT}' {MANNER_VARIABLE}='{path}'\n"
            f"exec '{sys.executable}' -m tests.support.fake_vllm \"$@\"\n"
        )
        python.chmod(0o755)
    return folder


def family(folder: Path) -> list[int]:
    """Return the pids of the living processes that the environment at ``folder`` has started."""
    token = str(folder / "manner.json").encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            command = Path(f"/proc/{name}/cmdline").read_bytes()
            environment = Path(f"/proc/{name}/environ").read_bytes()
        except OSError:
            continue
        if token in command.split(b"\0") or b"=" + token in environment:
            found.append(int(name))
    return found


def main(argv: list[str]) -> None:
    """Be a vLLM."""
    path = Path(os.environ[MANNER_VARIABLE])
    manner = Manner(**json.loads(path.read_text()))
    assert argv[:2] in (["-m", preimport.SERVER], ["-P", preimport.__file__]), argv
    for number in range(manner.log_lines):
        print(f"INFO line {number} ".ljust(99, "."), flush=True)
    where = "detached" if manner.detached else "attached"
    for _ in range(manner.children):
        subprocess.Popen([sys.executable, "-S", "-c", _CHILD, str(path), "2", where, _CHILD])
    if manner.exit_code is not None:
        print("ValueError: the model does not fit", flush=True)
        sys.exit(manner.exit_code)
    if manner.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if manner.mute:
        time.sleep(3600)
    if manner.deaf:
        fake_engine.STOP_SIGNAL = signal.SIGUSR1
    fake_engine.FIRST_BEHAVIOUR = fake_engine.Behaviour(**manner.first_behaviour)  # type: ignore[arg-type]
    fake_engine.main(argv[2:])


if __name__ == "__main__":
    main(sys.argv[1:])
