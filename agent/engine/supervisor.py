"""vLLM as a child process: kept running, on a private socket, until it is stopped."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.engine_policy import EnginePolicy
from agent.core.engine_status import EngineEndpoint, EngineStatus
from agent.engine.argv import EngineSpec, engine_command
from agent.engine.control import EngineControl
from agent.engine.driver import EngineDriver, RelayedAt, never_relayed
from agent.engine.probe import (
    ProbeTarget,
    check_embeds,
    check_generates,
    check_listening,
    read_counters,
)
from agent.engine.process import EnginePaths, EngineProcess, require_engine_environment

if TYPE_CHECKING:
    from agent.core.engine_liveness import Counters


class VllmBody:
    """One vLLM after another, from the same specification."""

    def __init__(self, spec: EngineSpec, paths: EnginePaths) -> None:
        self._spec = spec
        self._paths = paths
        self._process: EngineProcess | None = None
        self._target = ProbeTarget("http://engine", str(paths.uds_path))

    @property
    def endpoint(self) -> EngineEndpoint:
        """The private socket; the same for every process."""
        return EngineEndpoint(
            model=self._spec.model,
            uds_path=str(self._paths.uds_path),
            host=None,
            port=None,
            tls=False,
            supports_continuous_usage=not self._spec.embeds,
            embeds=self._spec.embeds,
        )

    def use_model_dir(self, model_dir: Path) -> None:
        """Start the next process with the weights in ``model_dir``."""
        self._spec = replace(self._spec, model_dir=model_dir)

    async def spawn(self) -> int | None:
        """Start a guarded vLLM and return the pid of its API server."""
        require_engine_environment(self._spec.environment)
        command = engine_command(
            self._spec,
            uds_path=self._paths.uds_path,
            home_dir=self._paths.home_dir,
            inherited=os.environ,
        )
        self._process = await EngineProcess.spawn(command, self._paths)
        return self._process.pid

    async def wait(self) -> str:
        """Return the reason of its end, once its whole tree has ended."""
        assert self._process is not None
        return await self._process.wait()

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End its whole tree."""
        if self._process is not None:
            self._process.kill()

    async def listen(self) -> None:
        """Raise unless its HTTP side answers."""
        await check_listening(self._target)

    async def generate(self) -> None:
        """Raise unless it generates a token, or embeds one."""
        check = check_embeds if self._spec.embeds else check_generates
        await check(self._target, self._spec.model)

    async def counters(self) -> Counters | None:
        """Return vLLM's own counters, read over the private socket."""
        return await read_counters(self._target)


class EngineSupervisor:
    """Keeps the vLLM of ``spec`` running; its files live below ``state_dir``.

    ``draw`` gives numbers in [0, 1); ``on_change`` is called on the event loop and must not block.
    """

    def __init__(
        self,
        spec: EngineSpec,
        *,
        state_dir: Path,
        now_mono_ms: Callable[[], float],
        draw: Callable[[], float],
        on_change: Callable[[EngineStatus], None],
        policy: EnginePolicy | None = None,
        relayed_mono_ms: RelayedAt = never_relayed,
    ) -> None:
        self._spec = spec
        self._paths = EnginePaths(state_dir)
        self._body = VllmBody(spec, self._paths)
        #: What asks this engine to take adapters and weights; None if it was not started for it.
        self.control = EngineControl(str(self._paths.uds_path)) if spec.controlled else None
        self._driver = EngineDriver(
            self._body,
            policy or EnginePolicy(),
            now_mono_ms=now_mono_ms,
            draw=draw,
            on_change=on_change,
            relayed_mono_ms=relayed_mono_ms,
        )

    @property
    def status(self) -> EngineStatus:
        """The engine as it is now."""
        return self._driver.status

    @property
    def ready_endpoint(self) -> EngineEndpoint | None:
        """Where it serves, while it is ready. Hot."""
        return self._driver.ready_endpoint

    async def start(self) -> None:
        """Keep the engine running; returns before it is ready.

        Raises: NoEngineEnvironment; ConfigInvalid if the state folder's path is too long for a
        socket or the specification has options that are not allowed.
        """
        require_engine_environment(self._spec.environment)
        self._paths.check()
        engine_command(
            self._spec,
            uds_path=self._paths.uds_path,
            home_dir=self._paths.home_dir,
            inherited={},
        )
        await self._driver.start()

    def use_model_dir(self, model_dir: Path) -> None:
        """Start again with the weights in ``model_dir``, if this process ends."""
        self._body.use_model_dir(model_dir)

    def restart(self) -> None:
        """End its process at once; another is started as after a crash."""
        self._driver.restart()

    async def stop(self) -> None:
        """End the engine and return when its whole tree has ended."""
        await self._driver.stop()
