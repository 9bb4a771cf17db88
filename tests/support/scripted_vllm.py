"""An engine in this process with vLLM 0.32's behaviours of adapters and weights, for tests.

As measured on the real one (``tests/integration/engine_real/test_cold_starts.py``): a name may be
loaded once; an unloaded adapter is forgotten by name alone; the prefix cache is reset only while no
request runs; weights that cannot be read end the process; the engine starts with the weights of its
folder. What a model or an adapter says is made from the path that it was loaded from.
"""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path

from agent.core.engine_status import EngineEndpoint, EngineState, EngineStatus
from agent.core.fingerprint import Take
from protos.domain.errors import EngineFailed

#: A file in an adapter's folder, without which the adapter does nothing.
EFFECT = "effect"


def take_of(*paths: Path) -> Take:
    """Return what weights say; the path's name stands for their content."""
    number = zlib.crc32("+".join(path.name for path in paths).encode())
    return Take((1, number % 7), (-float(number % 1_000) / 10,))


class ScriptedVllm:
    """One engine; also its own control. Set ``fail`` to make the named call fail, once a time."""

    def __init__(self, model: str, path: Path, uds: str, on_change) -> None:
        self.model = model
        self.folder = path
        self.uds = uds
        self.calls: list[str] = []
        self.fail: dict[str, str] = {}
        #: Calls that wait until the event is set.
        self.hold: dict[str, asyncio.Event] = {}
        self.running = 0
        self.starts = 0
        self.ready_at_once = True
        self.start_error: Exception | None = None
        self._on_change = on_change
        self._state = EngineState.ABSENT
        self._loaded: Path | None = None
        self.adapters: dict[str, Path] = {}
        self._last_error: str | None = None

    # -- the engine ------------------------------------------------------------------------------

    @property
    def control(self):
        return self

    @property
    def status(self) -> EngineStatus:
        restarts = max(0, self.starts - 1)
        return EngineStatus(
            self._state, self.ready_endpoint, self.starts, restarts, 0.0, self._last_error, 1
        )

    @property
    def ready_endpoint(self) -> EngineEndpoint | None:
        if self._state is not EngineState.READY:
            return None
        return EngineEndpoint(self.model, self.uds, None, None, False, True)

    async def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error
        self._enter(EngineState.STARTING)
        if self.ready_at_once:
            asyncio.get_running_loop().call_soon(self.become_ready)

    async def stop(self) -> None:
        self._enter(EngineState.ABSENT)

    def use_model_dir(self, model_dir: Path) -> None:
        self.folder = model_dir

    def restart(self) -> None:
        self.calls.append("restart")
        self.die("killed by signal 9")

    def become_ready(self) -> None:
        """A new process serves, with the weights in its folder."""
        if self._state is EngineState.ABSENT:
            return
        self.starts += 1
        self._loaded, self.adapters = self.folder, {}
        self._enter(EngineState.READY)

    def die(self, reason: str = "killed by signal 9") -> None:
        """Its process ends; the supervisor starts another soon."""
        self._last_error = reason
        self._enter(EngineState.BACKOFF)
        if self.ready_at_once:
            asyncio.get_running_loop().call_soon(self.become_ready)

    def give_up(self) -> None:
        """Too many starts have failed."""
        self._last_error = "does not fit"
        self._enter(EngineState.FAILED)

    def _enter(self, state: EngineState) -> None:
        self._state = state
        self._on_change()

    # -- its control -----------------------------------------------------------------------------

    async def load_adapter(self, name: str, path: Path) -> None:
        await self._call(f"load {name}")
        if name in self.adapters:
            raise EngineFailed(f"{name} has already been loaded", retryable=False)
        if not path.is_dir():
            raise EngineFailed("No adapter found", retryable=False)
        self.adapters[name] = path

    async def unload_adapter(self, name: str) -> None:
        await self._call(f"unload {name}")
        self.adapters.pop(name, None)

    async def reload_weights(self, path: Path) -> None:
        await self._call(f"reload {path.name}")
        if not path.is_dir():
            self.die("Worker failed")
            raise EngineFailed("Call to collective_rpc method failed")
        self._loaded = path

    async def reset_prefix_cache(self) -> bool:
        await self._call("reset")
        return self.running == 0

    async def take(self, name: str, *, brief: bool = False) -> Take:
        await self._call(f"take {name}")
        assert self._loaded is not None
        if name == self.model:
            return take_of(self._loaded)
        path = self.adapters[name]
        effective = (path / EFFECT).exists()
        return take_of(self._loaded, path) if effective else take_of(self._loaded)

    async def _call(self, what: str) -> None:
        life = self.starts
        self.calls.append(what)
        verb = what.partition(" ")[0]
        if verb in self.hold:
            await self.hold[verb].wait()
        await asyncio.sleep(0)
        if self._state is not EngineState.READY or self.starts != life:
            raise EngineFailed("cannot connect")
        reason = self.fail.pop(verb, None)
        if reason == "die":
            self.die()
            raise EngineFailed("Connection reset by peer")
        if reason is not None:
            raise EngineFailed(reason)
