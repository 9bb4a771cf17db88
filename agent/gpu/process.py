"""Starts, reads and kills the child process of a reader, with a deadline for every answer."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process

import orjson

from agent.core.accelerators import Reading, plain_text, readings_from_json

MAX_LINE_BYTES = 256 * 1024
#: Longest wait for a killed child: one in an uninterruptible driver call stays.
_REAP_TIMEOUT_S = 2.0


class ReaderBroken(Exception):
    """The child stalled, died, could not read, or sent an invalid answer."""


class ReaderRefused(ReaderBroken):
    """The child answered that it cannot read; ``missing``: its library is not installed."""

    def __init__(self, reason: str, *, missing: bool) -> None:
        super().__init__(reason)
        self.missing = missing


class ReaderChild:
    """At most one child process at a time; a new one is started when it has ended."""

    def __init__(self, kind: str) -> None:
        self._argv = [sys.executable, "-P", "-m", "agent.gpu.child", "--kind", kind]
        self._process: Process | None = None
        self._killed = False

    @property
    def pid(self) -> int | None:
        """The child's process id, or None without a child."""
        return None if self._process is None else self._process.pid

    async def read(self, deadline_ms: float) -> tuple[Reading, ...]:
        """Return a reading of every accelerator. Raises: ReaderBroken, with the child killed."""
        try:
            async with asyncio.timeout(deadline_ms / 1_000):
                return await self._read()
        except TimeoutError:
            await self.kill()
            raise ReaderBroken(f"no answer within {deadline_ms:.0f} ms") from None
        except ReaderBroken:
            await self.kill()
            raise
        except (OSError, RuntimeError, ValueError) as error:
            # uvloop raises RuntimeError for a closed pipe.
            await self.kill()
            raise ReaderBroken(str(error)) from error

    async def kill(self) -> None:
        """Kill the child, if there is one."""
        process = self._process
        if process is None:
            return
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REAP_TIMEOUT_S):
                await process.wait()
        self._forget_if_exited()

    def _forget_if_exited(self) -> None:
        if self._process is not None and self._process.returncode is not None:
            self._process, self._killed = None, False

    async def _read(self) -> tuple[Reading, ...]:
        if self._process is not None and self._process.returncode is not None:
            expected = self._killed
            self._forget_if_exited()
            if not expected:
                raise ReaderBroken("the reader died")
        if self._killed:
            raise ReaderBroken("the last reader hangs in its driver and cannot be killed")
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv, stdin=PIPE, stdout=PIPE, limit=MAX_LINE_BYTES
            )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(b"read\n")
        await stdin.drain()
        line = await stdout.readline()  # ValueError over the limit
        if not line.endswith(b"\n"):
            raise ReaderBroken("the reader died")
        answer = orjson.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            reason = plain_text(answer["error"], "error")
            raise ReaderRefused(reason, missing=answer.get("missing") is True)
        return readings_from_json(answer)
