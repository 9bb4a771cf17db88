"""Somebody else's OpenAI-compatible server as an engine: found out, watched, never touched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from agent.core.backoff import BackoffPolicy
from agent.core.engine_lifecycle import EnginePolicy
from agent.core.engine_status import EngineEndpoint, EngineStatus
from agent.engine.driver import EngineDriver
from agent.engine.probe import ProbeTarget, check_embeds, counts_while_streaming, served_model
from protos.domain.errors import ConfigInvalid, EngineFailed

#: Once it has generated, being asked for its models must do: its generations may cost somebody.
EXTERNAL_POLICY = EnginePolicy(
    start_timeout_ms=60_000,
    start_probe_interval_ms=500,
    listen_timeout_ms=5_000,
    generate_timeout_ms=30_000,
    live_probe_interval_ms=15_000,
    live_probe_failures=2,
    stop_grace_ms=1_000,
    kill_interval_ms=1_000,
    backoff=BackoffPolicy(base_ms=500, cap_ms=10_000),
    # There is nothing to wear out by asking again.
    start_failures=2**31,
)


def parse_engine_url(url: str) -> SplitResult:
    """Return the parts of ``url``, an http(s) origin with or without ``/v1``.

    Raises: ConfigInvalid saying what is wrong with it; the URL itself is not repeated if it holds
    a password.
    """
    parts = urlsplit(url)
    try:
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        port_is_good = False
    if parts.username is not None or parts.password is not None:
        raise ConfigInvalid(["an engine URL may not hold a user or password"])
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_good:
        raise ConfigInvalid([f"engine URL {url!r} is not http(s)://host[:port][/v1]"])
    if parts.path.rstrip("/") not in ("", "/v1") or parts.query or parts.fragment:
        raise ConfigInvalid([f"engine URL {url!r} has a path other than /v1"])
    return parts


class ExternalBody:
    """A server that starts and stops without us: alive is what answers."""

    def __init__(self, url: str, *, embeds: bool = False) -> None:
        parts = parse_engine_url(url)
        assert parts.hostname is not None
        tls = parts.scheme == "https"
        self._target = ProbeTarget(f"{parts.scheme}://{parts.netloc}")
        self._address = (parts.hostname, parts.port or (443 if tls else 80), tls)
        self._model = ""
        self._embeds = embeds
        self._endpoint: EngineEndpoint | None = None
        self._over = asyncio.Event()

    @property
    def endpoint(self) -> EngineEndpoint:
        """The server's address with the model that it offered last."""
        assert self._endpoint is not None
        return self._endpoint

    async def spawn(self) -> None:
        """There is nothing to start."""
        self._over.clear()
        self._endpoint = None

    async def wait(self) -> str:
        """Return when we have given it up."""
        await self._over.wait()
        return "not used any more"

    def terminate(self) -> None:
        """Leave it."""
        self._over.set()

    def kill(self) -> None:
        """Leave it; it is not ours to kill."""
        self._over.set()

    async def listen(self) -> None:
        """Raise unless it offers a model."""
        self._model = await served_model(self._target)

    async def generate(self) -> None:
        """Raise unless it generates; once it has, unless it still offers the same model."""
        if self._endpoint is None:
            continuous = await self._try_out()
            host, port, tls = self._address
            self._endpoint = EngineEndpoint(
                self._model, None, host, port, tls, continuous, self._embeds
            )
            return
        offered = await served_model(self._target)
        if offered != self._endpoint.model:
            # Our requests would name a model that it no longer has: start over.
            self._over.set()
            raise EngineFailed(f"it serves {offered} instead of {self._endpoint.model} now")

    async def _try_out(self) -> bool:
        """Let it do once what it is for; tell whether it counts while it streams."""
        if self._embeds:
            await check_embeds(self._target, self._model)
            return False
        return await counts_while_streaming(self._target, self._model)


class ExternalEngine:
    """Watches the server at ``url``, with the interface of ``EngineSupervisor``.

    Raises: ConfigInvalid if ``url`` is not an http(s) origin.
    """

    def __init__(
        self,
        url: str,
        *,
        embeds: bool = False,
        now_mono_ms: Callable[[], float],
        on_change: Callable[[EngineStatus], None],
        draw: Callable[[], float] = lambda: 1.0,
        policy: EnginePolicy = EXTERNAL_POLICY,
    ) -> None:
        self._driver = EngineDriver(
            ExternalBody(url, embeds=embeds),
            policy,
            now_mono_ms=now_mono_ms,
            draw=draw,
            on_change=on_change,
        )

    @property
    def status(self) -> EngineStatus:
        """The engine as it is now."""
        return self._driver.status

    async def start(self) -> None:
        """Watch it from now on; returns before it is known to be ready."""
        await self._driver.start()

    async def stop(self) -> None:
        """Watch it no longer."""
        await self._driver.stop()
