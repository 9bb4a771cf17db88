"""Runs the trial of a model's templates and tokenizer in a child process with limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, NoReturn

import orjson

from protos.domain.errors import InvalidRequest, Overloaded

#: Limits of the child. The largest published tokenizers (35 MB) load in 3 s and 1 GB.
MEMORY_BYTES: Final = 3 * 1024**3
CPU_S: Final = 30
WALL_S: Final = 120.0
#: Longest wait for the trials of other imports.
QUEUE_S: Final = 120.0
_MAX_OUTPUT_BYTES: Final = 256 * 1024
_MODULE: Final = "coordinator.blobs.trial_child"


class Template(NamedTuple):
    """A chat template, and the file that it is from."""

    file: str
    text: str


class TrialLimits(NamedTuple):
    """What the child may take."""

    memory_bytes: int = MEMORY_BYTES
    cpu_s: int = CPU_S
    wall_s: float = WALL_S
    queue_s: float = QUEUE_S


class Trial(NamedTuple):
    """What is to be tried: large JSON files by name and path, templates, special tokens."""

    json_files: Mapping[str, str]
    templates: Sequence[Template]
    special_tokens: Mapping[str, str]


async def try_model(trial: Trial, place: asyncio.Semaphore, limits: TrialLimits) -> None:
    """Refuse a model whose files do not do their work within ``limits``.

    Raises: InvalidRequest naming the file and the limit; Overloaded when ``place`` stays taken.
    """
    if not trial.json_files and not trial.templates:
        return
    try:
        await asyncio.wait_for(place.acquire(), limits.queue_s)
    except TimeoutError:
        raise Overloaded(
            "other models are being tried", "import again when those are done"
        ) from None
    try:
        await _run(trial, limits)
    finally:
        place.release()


async def _run(trial: Trial, limits: TrialLimits) -> None:
    job = orjson.dumps(
        {
            "json": dict(trial.json_files),
            "templates": [template._asdict() for template in trial.templates],
            "special": dict(trial.special_tokens),
        }
    )
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", _MODULE, str(limits.memory_bytes), str(limits.cpu_s)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.defpath, "LANG": "C.UTF-8"},
        start_new_session=True,
    )
    output = bytearray()
    try:
        async with asyncio.timeout(limits.wall_s):
            await _talk(child, job, output)
            await child.wait()
    except TimeoutError:
        _refuse(output, f"took more than {limits.wall_s:.0f} s")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
    _judge(output, child.returncode, limits)


async def _talk(child: asyncio.subprocess.Process, job: bytes, output: bytearray) -> None:
    """Send ``job`` and add to ``output`` what the child says."""
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(ConnectionError):
        child.stdin.write(job)
        await child.stdin.drain()
    child.stdin.close()
    while len(output) < _MAX_OUTPUT_BYTES and (data := await child.stdout.read(65_536)):
        output += data


def _judge(output: bytearray, returncode: int | None, limits: TrialLimits) -> None:
    """Return if the child found nothing. Raises: InvalidRequest."""
    last = _lines(output)[-1] if _lines(output) else {}
    if returncode == 0 and last.get("done"):
        return
    if "refused" in last:
        raise InvalidRequest(str(last["refused"]), str(last.get("hint", "")))
    if returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        _refuse(output, f"took more than {limits.cpu_s} s of processor time")
    if last.get("memory") or returncode in (-signal.SIGABRT, -signal.SIGSEGV):
        _refuse(output, f"took more than {limits.memory_bytes // 1024**2} MiB of memory")
    _refuse(output, f"ended the process that tried it (exit {returncode})")


def _refuse(output: bytearray, what: str) -> NoReturn:
    tried = [str(line["trying"]) for line in _lines(output) if "trying" in line]
    file = tried[-1] if tried else "the model"
    raise InvalidRequest(
        f"{file} {what} when it was tried",
        "replace it by the file of the original model; limits are in docs/OPERATIONS.md",
    )


def _lines(output: bytearray) -> list[dict[str, object]]:
    found = []
    for line in output.splitlines():
        with contextlib.suppress(orjson.JSONDecodeError):
            content = orjson.loads(line)
            if isinstance(content, dict):
                found.append(content)
    return found
