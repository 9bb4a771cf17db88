"""An OpenAI-compatible server that this agent does not run, as an engine: probed, never ended."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

import aiohttp

from agent.core.backoff import BackoffPolicy
from agent.core.engine_policy import EnginePolicy
from agent.core.engine_status import EngineEndpoint, EngineStatus
from agent.engine.driver import EngineDriver, RelayedAt, never_relayed
from agent.engine.probe import ProbeTarget, check_embeds, counts_while_streaming, served_model
from protos.domain.errors import ConfigInvalid, EngineFailed

#: Connections refused in a row after which a server that was ready has ended.
_REFUSALS_OF_ENDED = 2

#: Once it has generated it is only asked for its models: its generations may cost money.
EXTERNAL_POLICY = EnginePolicy(
    start_timeout_ms=60_000,
    start_probe_interval_ms=500,
    listen_timeout_ms=5_000,
    generate_timeout_ms=30_000,
    live_probe_interval_ms=15_000,
    stop_grace_ms=1_000,
    kill_interval_ms=1_000,
    backoff=BackoffPolicy(base_ms=500, cap_ms=10_000),
    # Asking again costs nothing.
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
    """A server whose process this agent does not see: it has ended when nothing listens there."""

    def __init__(self, url: str, *, embeds: bool = False) -> None:
        parts = parse_engine_url(url)
        assert parts.hostname is not None
        tls = parts.scheme == "https"
        self._target = ProbeTarget(f"{parts.scheme}://{parts.netloc}")
        self._address = (parts.hostname, parts.port or (443 if tls else 80), tls)
        self._model = ""
        self._embeds = embeds
        self._endpoint: EngineEndpoint | None = None
        self._refusals = 0
        self._over = asyncio.Event()
        self._why_over = ""

    @property
    def endpoint(self) -> EngineEndpoint:
        """The server's address with the model that it offered last."""
        assert self._endpoint is not None
        return self._endpoint

    async def spawn(self) -> None:
        """Begin to use it; its operator starts it."""
        self._over.clear()
        self._endpoint = None
        self._refusals = 0

    async def wait(self) -> str:
        """Return the reason once it is no longer used."""
        await self._over.wait()
        return self._why_over

    def terminate(self) -> None:
        """Use it no longer."""
        self._leave("not used any more")

    def kill(self) -> None:
        """Use it no longer; its process is its operator's."""
        self._leave("not used any more")

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
        try:
            offered = await served_model(self._target)
        except aiohttp.ClientConnectorError as error:
            self._refusals += error.errno == errno.ECONNREFUSED
            if self._refusals >= _REFUSALS_OF_ENDED:
                self._leave(f"nothing listens at {self._target.base_url}")
            raise
        self._refusals = 0
        if offered != self._endpoint.model:
            # Requests would name a model that it no longer has: start over.
            self._leave(f"it serves {offered} instead of {self._endpoint.model} now")
            raise EngineFailed(self._why_over)

    async def counters(self) -> None:
        """Return None: what an external server counts is unknown."""

    def _leave(self, reason: str) -> None:
        self._why_over = reason
        self._over.set()

    async def _try_out(self) -> bool:
        """Make it embed or generate once; return whether it counts while it streams."""
        if self._embeds:
            await check_embeds(self._target, self._model)
            return False
        return await counts_while_streaming(self._target, self._model)


class ExternalEngine:
    """Probes the server at ``url``, with the interface of ``EngineSupervisor``.

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
        relayed_mono_ms: RelayedAt = never_relayed,
    ) -> None:
        self._driver = EngineDriver(
            ExternalBody(url, embeds=embeds),
            policy,
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
        """Probe it from now on; returns before it is known to be ready."""
        await self._driver.start()

    async def stop(self) -> None:
        """Stop probing it."""
        await self._driver.stop()
