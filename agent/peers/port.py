"""The peer port: other agents' requests, served here or refused, never placed again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from agent.core.peer_load import PeerLoad, load_fields, load_header
from agent.core.peer_request import read_peer_request
from agent.core.samples import Samples, counter_samples
from agent.formats import FORMATS, ApiFormat
from agent.peers.tls import PeerTls, peer_node_id
from agent.relay.connections import ConnectionSet
from agent.relay.exchange import Ending
from agent.relay.far_times import ENGINE_MODEL_HEADER, far_times_header
from agent.relay.limits import ServerLimits
from agent.relay.listener import Listener
from agent.relay.messages import Header, Request, request_bytes, response_head
from agent.relay.pass_through import PassThrough
from protos.domain.errors import (
    EdgeForgeError,
    Forbidden,
    InvalidRequest,
    NoReplica,
    NotFound,
)
from protos.domain.trace import FarTimes

if TYPE_CHECKING:
    import asyncio

    from agent.config import AgentConfig
    from agent.core.engine_queue import EngineQueue, Place
    from agent.core.engine_status import EngineEndpoint
    from agent.core.fill import FillMeter
    from agent.relay.server import ServerConnection
    from agent.relay.upstream_pool import UpstreamPool
    from protos.domain.fleet_view import FleetView

_log = logging.getLogger(__name__)

_HELP = {
    "requests": "Requests from other agents.",
    "refused": "Requests of other agents that were refused.",
}
#: Response headers of an engine that the asking agent reads.
_PASSED_ON = frozenset({b"content-type", b"retry-after"})
_JSON: Header = (b"content-type", b"application/json")


@dataclass(slots=True)
class PeerPortStats:
    """Counters of other agents' requests; ``_HELP`` names those that are metrics."""

    requests: int = 0
    in_flight: int = 0
    refused: int = 0
    broken: int = 0

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield the counters."""
        yield from counter_samples("edgeforge_peer_", self, _HELP)


@dataclass(frozen=True, slots=True)
class PeerService:
    """What the peer port gets from ``agent.data_plane``."""

    node_id: str
    view: Callable[[], FleetView]
    endpoint_for: Callable[[str], EngineEndpoint | None]
    engine_pool: Callable[[EngineEndpoint], UpstreamPool]
    ready_models: Callable[[], list[str]]
    #: Changes with every start of the engine.
    incarnation: Callable[[], str]
    fill: FillMeter
    engine_queue: EngineQueue
    local_in_flight: Callable[[], int]
    draining: Callable[[], bool]
    now_mono_ms: Callable[[], float]


class PeerPort:
    """The listener for other agents' requests."""

    def __init__(self, config: AgentConfig, tls: PeerTls, service: PeerService) -> None:
        self._config = config
        self._tls = tls
        self._service = service
        self.stats = PeerPortStats()
        client = config.client
        limits = ServerLimits(
            max_header_bytes=client.max_header_bytes,
            max_body_bytes=client.max_body_bytes + 64 * 1024,  # rewriting can lengthen a body
            header_timeout_ms=client.header_timeout_ms,
            body_timeout_ms=client.body_timeout_ms,
            idle_timeout_ms=max(client.idle_timeout_ms, 600_000.0),
            buffer_bytes=config.limits.client_buffer_bytes,
            max_connections=client.max_connections,
        )
        self.connections = ConnectionSet(
            _render_error, limits, service.now_mono_ms, gate=self._admit
        )
        self._listener = Listener("peer.port", self.connections, self._serve)

    @property
    def port(self) -> int:
        """The port number in use."""
        return self._listener.port

    async def start(self) -> None:
        """Listen. Raises: ConfigInvalid for a port in use."""
        peer = self._config.peer
        await self._listener.start(peer.host, peer.port, self._tls.server)

    async def drain(self, grace_ms: float) -> None:
        """Accept no new requests and let running ones end."""
        await self._listener.drain(grace_ms)

    async def stop(self) -> None:
        await self._listener.stop()

    def _admit(self, transport: asyncio.BaseTransport) -> str:
        """Return the connected node's id. Raises: Forbidden when it is not in the table."""
        node_id = peer_node_id(transport)
        if node_id not in self._service.view().nodes:
            raise Forbidden(f"node {node_id} is not in the table")
        return node_id

    async def _serve(self, request: Request, client: ServerConnection) -> None:
        stats, service = self.stats, self._service
        try:
            if client.context not in service.view().nodes:
                raise Forbidden(f"node {client.context} is no longer in the table")
            if request.path == "/probe" and request.method == "GET":
                self._answer_probe(request, client)
                return
            api = FORMATS.get(request.path)
            if api is None or request.method != "POST":
                raise NotFound(f"unknown route {request.path[:100]}")
            stats.requests += 1
            stats.in_flight += 1
            try:
                await self._generate(request, api, client)
            finally:
                stats.in_flight -= 1
        except EdgeForgeError as error:
            stats.refused += 1
            status, headers, body = _render_error(error)
            client.respond(request, status, [*headers, load_header(self._load())], body)

    async def _generate(self, request: Request, api: ApiFormat, client: ServerConnection) -> None:
        """Serve from the local engine. Raises: Forbidden, NoReplica, InvalidRequest."""
        service, limits = self._service, self._config.limits
        asked = read_peer_request(
            request.headers, str(client.context), service.node_id, service.view()
        )
        model = asked.model
        endpoint = service.endpoint_for(model)
        if service.draining():
            raise NoReplica(f"node {service.node_id} is draining")
        if endpoint is None:
            raise NoReplica(f"node {service.node_id} does not serve {model[:100]!r} now")
        if endpoint.embeds is not api.embeds:
            raise NoReplica(f"the engine of node {service.node_id} does not serve {api.path}")
        if self.stats.in_flight + service.local_in_flight() > limits.max_engine_in_flight:
            raise NoReplica(f"node {service.node_id} is full")
        body = request.body
        if endpoint.model != model or not endpoint.supports_continuous_usage:
            body = _adapt_body(body, endpoint)
        pool = service.engine_pool(endpoint)
        place = service.engine_queue.enter(service.now_mono_ms())
        exchange = PassThrough(
            client,
            api.event_stream(include_usage=True, continuous_usage=True),
            lambda status, headers: response_head(
                status,
                [
                    *(header for header in headers if header[0] in _PASSED_ON),
                    (b"transfer-encoding", b"chunked"),
                    load_header(self._load()),
                    self._timing(request, place),
                    *_engine_model(endpoint, model),
                ],
                keep_alive=client.may_keep_alive(request),
            ),
            service.now_mono_ms,
            service.fill.count,
            api.token_mark,
            embeds=api.embeds,
        )
        message = request_bytes(
            "POST",
            request.path.encode(),
            pool.address.host_header,
            _engine_headers(request),
            body,
        )
        # how long to wait is decided where the client is: this connection's end cuts the engine
        try:
            await exchange.run(pool, message)
        finally:
            service.engine_queue.leave(place, service.now_mono_ms())
        if exchange.ending is Ending.LOST:
            if not exchange.started:
                raise NoReplica(f"the engine of node {service.node_id} failed: {exchange.reason}")
            self.stats.broken += 1
            client.abort()  # the other agent sees a cut body and ends its client's stream

    def _answer_probe(self, request: Request, client: ServerConnection) -> None:
        service = self._service
        answer = {
            "node": service.node_id,
            **load_fields(self._load()),
            "ready_models": [] if service.draining() else service.ready_models(),
            "incarnation": service.incarnation(),
        }
        client.respond(request, 200, [_JSON], orjson.dumps(answer))

    def _timing(self, request: Request, place: Place) -> Header:
        """Return the time spent here up to the first token, or up to the whole answer."""
        now, sent = self._service.now_mono_ms(), place.entered_mono_ms
        admission_ms = sent - request.first_byte_mono_ms
        return far_times_header(FarTimes(admission_ms, place.queue_ms(now), now - sent))

    def _load(self) -> PeerLoad:
        """Return how many requests the engine serves, from all agents, and how many wait."""
        service = self._service
        queued = service.engine_queue.waiting
        here = self.stats.in_flight + service.local_in_flight()
        fill_ratio = service.fill.fill_ratio(service.now_mono_ms())
        return PeerLoad(max(0, here - queued), queued, fill_ratio, service.draining())


def _engine_headers(request: Request) -> list[Header]:
    return [
        (b"content-type", b"application/json"),
        (b"accept", request.headers.get(b"accept", b"*/*")),
        (b"x-request-id", request.headers.get(b"x-edgeforge-trace-id", b"none")),
    ]


def _engine_model(endpoint: EngineEndpoint, model: str) -> list[Header]:
    """Return the header with an external engine's own name for the model."""
    name = endpoint.model.encode("utf-8", "replace")
    if endpoint.model == model or not name.isascii() or not endpoint.model.isprintable():
        return []
    return [(ENGINE_MODEL_HEADER, name)]


def _adapt_body(body: bytes, endpoint: EngineEndpoint) -> bytes:
    """Return the body with the external engine's own name for the model."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("a peer sent a body that is not JSON") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("a peer sent a body that is no JSON object")
    fields["model"] = endpoint.model
    options = fields.get("stream_options")
    if isinstance(options, dict) and not endpoint.supports_continuous_usage:
        options.pop("continuous_usage_stats", None)
    return orjson.dumps(fields)


def _render_error(error: EdgeForgeError, _path: str = "") -> tuple[int, list[Header], bytes]:
    body = orjson.dumps({"error": {"message": error.message, "type": error.openai_type}})
    return error.http_status, [_JSON], body
