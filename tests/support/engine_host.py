"""A process with an engine supervisor and nothing else: an agent to be killed.

    python -m tests.support.engine_host ENVIRONMENT STATE_DIR MODEL_DIR LOOP MODE

LOOP is asyncio or uvloop, MODE generate or embed.

Prints every status as one JSON line; SIGTERM stops the engine and then the process.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.engine.argv import Accelerator, EngineSpec
from agent.engine.supervisor import EngineSupervisor

if TYPE_CHECKING:
    from agent.core.engine_status import EngineStatus

ROOT = Path(__file__).parents[2]


class EngineHost:
    """The process, seen from a test."""

    def __init__(
        self,
        environment: Path,
        state_dir: Path,
        *,
        model_dir: Path | None = None,
        loop: str = "asyncio",
        embeds: bool = False,
    ) -> None:
        words = [environment, state_dir, model_dir or environment, loop]
        words.append("embed" if embeds else "generate")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.engine_host", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def until(self, state: str) -> dict[str, Any]:
        """Return the first status, from now on, in ``state``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            status: dict[str, Any] = json.loads(line)
            if status["state"] == state:
                return status
        raise AssertionError(f"the host ended before the engine was {state}")

    def kill(self) -> None:
        """``kill -9``."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        """End it, politely if it is still there."""
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()

    def __enter__(self) -> EngineHost:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def spec_for(
    environment: Path, model_dir: Path | None = None, *, embeds: bool = False
) -> EngineSpec:
    """Return the specification of a small model; a fake engine does not read its folder."""
    return EngineSpec(
        environment=environment,
        model_dir=model_dir or environment,
        model="acme/small@1",
        context_tokens=2048,
        accelerator=Accelerator.CPU,
        kv_cache_bytes=256 * 1024 * 1024,
        preimport=True,
        embeds=embeds,
        tool_parser="" if embeds else "hermes",
    )


def _print(status: EngineStatus) -> None:
    print(json.dumps(dataclasses.asdict(status)), flush=True)


async def _run(environment: Path, state_dir: Path, model_dir: Path, *, embeds: bool) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    supervisor = EngineSupervisor(
        spec_for(environment, model_dir, embeds=embeds),
        state_dir=state_dir,
        now_mono_ms=lambda: time.monotonic() * 1000,
        draw=random.random,
        on_change=_print,
    )
    await supervisor.start()
    await stop.wait()
    await supervisor.stop()


def main() -> None:
    """Host an engine until SIGTERM."""
    environment, state_dir, model_dir, loop, mode = sys.argv[1:]
    work = _run(Path(environment), Path(state_dir), Path(model_dir), embeds=mode == "embed")
    if loop == "uvloop":
        import uvloop

        uvloop.run(work)
    else:
        asyncio.run(work)


if __name__ == "__main__":
    # A session of its own would hide a signal sent to the group by mistake.
    os.setpgid(0, 0)
    main()
