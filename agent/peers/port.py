"""The peer port: other agents' requests, served here or refused, never placed again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import orjson

from agent.core.body_budget import node_owner
from agent.core.engine_place import Work
from agent.core.in_flight_shares import InFlightShares
from agent.core.peer_load import (
    MAX_NAMES,
    PeerLoad,
    load_fields,
    load_header,
    loadable_field,
)
from agent.core.peer_request import (
    ACCOUNT_HEADER,
    PeerRequest,
    read_peer_request,
    refuse_by_head,
)
from agent.core.served import ServedLedger, ServedRecord
from agent.formats import FORMATS, ApiFormat
from agent.formats.body import read_body
from agent.peers.entering import Entered, NotResident, enter_engine
from agent.peers.heads import (
    EVENT_STREAM,
    JSON,
    engine_headers,
    engine_model,
    render_error,
    timing,
    trace_id,
)
from agent.peers.pieces import PIECES_PATH, PieceServer
from agent.peers.places import Crowded, wait_for_place
from agent.peers.running import RunningForPeers, cut_removed
from agent.peers.service import PeerPortStats, PeerService
from agent.peers.tls import PeerTls, peer_node_id
from agent.relay.connections import Answer, ConnectionSet
from agent.relay.exchange import Ending
from agent.relay.far_times import REFUSED_HERE, way_header
from agent.relay.large_bodies import fields_of_large, give_way
from agent.relay.limits import ServerLimits
from agent.relay.listener import Listener
from agent.relay.messages import Request, request_bytes, response_head
from agent.relay.pass_through import PassThrough
from agent.relay.passed_on import passed_on_headers
from protos.domain.errors import (
    EdgeForgeError,
    EngineFailed,
    Forbidden,
    InvalidRequest,
    NoReplica,
    NotFound,
    Overloaded,
)
from protos.domain.resources import SlaTier

if TYPE_CHECKING:
    import asyncio

    from agent.config import AgentConfig
    from agent.core.body_budget import BodyBudget
    from agent.core.engine_place import Place
    from agent.core.samples import Samples
    from agent.formats.body import GenerationBody
    from agent.relay.server import ServerConnection

_log = logging.getLogger(__name__)

#: Connections that are in their handshake hold 1 / this of the port: each takes 50 KiB.
_STRANGERS_PART = 16


class PeerPort:
    """The listener for other agents' requests."""

    def __init__(
        self,
        config: AgentConfig,
        tls: PeerTls,
        service: PeerService,
        *,
        bodies: BodyBudget,
        max_connections: int,
        pieces: PieceServer,
    ) -> None:
        self._pieces = pieces
        self._config = config
        self._tls = tls
        self._service = service
        self.stats = PeerPortStats()
        self.ledger = ServedLedger()
        self._running = RunningForPeers(service.node_id, service.view)
        client = config.client
        limits = ServerLimits(
            max_header_bytes=client.max_header_bytes,
            max_body_bytes=client.max_body_bytes + 64 * 1024,  # rewriting can lengthen a body
            header_timeout_ms=client.header_timeout_ms,
            body_timeout_ms=client.body_timeout_ms,
            idle_timeout_ms=max(client.idle_timeout_ms, 600_000.0),
            buffer_bytes=config.limits.client_buffer_bytes,
            max_connections=max_connections,
            strangers_part=_STRANGERS_PART,
        )
        self.connections = ConnectionSet(
            self._refused,
            limits,
            service.now_mono_ms,
            gate=self._admit,
            admit_head=self._admit_head,
            bodies=bodies,
        )
        self._max_body_bytes = limits.max_body_bytes
        #: By node: requests in progress keep their connections, of which the port has so many.
        self._shares = InFlightShares(max_connections)
        self._listener = Listener("peer.port", self.connections, self._serve)

    @property
    def port(self) -> int:
        """The port number in use."""
        return self._listener.port

    def samples(self, now_mono_ms: float) -> Samples:
        """Yield the metrics of other agents' requests and connections."""
        yield from self.stats.samples(now_mono_ms)
        yield from self._running.samples(now_mono_ms)
        yield from self._pieces.samples(now_mono_ms)
        yield from self.connections.samples("edgeforge_peer_connections")

    async def start(self) -> None:
        """Listen. Raises: ConfigInvalid for a port in use."""
        peer = self._config.peer
        await self._listener.start(peer.host, peer.port, self._tls.server)

    async def drain(self, grace_ms: float) -> None:
        """Accept no new requests and let running ones end."""
        await self._listener.drain(grace_ms)

    async def stop(self) -> None:
        await self._listener.stop()

    def table_changed(self) -> None:
        """Cut the connections of removed nodes now, and revoked requests after a moment."""
        cut_removed(self.connections.live, self._service.view())
        self._running.table_changed()

    def _admit(self, transport: asyncio.BaseTransport) -> str:
        """Return the connected node's id. Raises: Forbidden when it is not in the table."""
        node_id = peer_node_id(transport)
        if node_id not in self._service.view().nodes:
            raise Forbidden(f"node {node_id} is not in the table")
        return node_id

    def _admit_head(self, request: Request, node_id: object) -> int:
        """Return how large the body may be, which counts for the asking node. Raises: Forbidden."""
        view = self._service.view()
        if node_id not in view.nodes:
            raise Forbidden(f"node {node_id} is no longer in the table")
        if request.path in FORMATS:  # what may not be read here is refused before its body
            refuse_by_head(request.headers, str(node_id), self._service.node_id, view)
        account = request.headers.get(ACCOUNT_HEADER, b"").decode("latin-1")
        request.body_owner = node_owner(str(node_id), account, view.accounts)
        return self._max_body_bytes

    async def _serve(self, request: Request, client: ServerConnection) -> None:
        stats, service = self.stats, self._service
        try:
            if client.context not in service.view().nodes:
                raise Forbidden(f"node {client.context} is no longer in the table")
            if request.path == "/probe" and request.method == "GET":
                self._answer_probe(request, client)
                return
            if request.path.startswith(PIECES_PATH) and request.method == "GET":
                await self._pieces.serve(request, client)
                return
            api = FORMATS.get(request.path)
            if api is None or request.method != "POST":
                raise NotFound(f"unknown route {request.path[:100]}")
            stats.requests += 1
            self._shares.enter(node_id := str(client.context))
            stats.in_flight += 1
            try:
                await self._generate(request, api, client)
            finally:
                stats.in_flight -= 1
                self._shares.leave(node_id)
        except EdgeForgeError as error:
            stats.refused += 1
            if isinstance(error, InvalidRequest | Forbidden):
                self._flag(str(client.context), error)
            client.respond(request, *self._refused(error))

    def _refused(self, error: EdgeForgeError, _path: str = "") -> Answer:
        """Return the answer to a refused request.

        What is refused because of how much else is here has a time to retry: this node has not
        failed, and the asking agent must not stop asking it for others.
        """
        status, headers, body = render_error(error)
        retry_s = error.retry_after_s if isinstance(error, Crowded | Overloaded) else None
        headers += [REFUSED_HERE, load_header(self._load(retry_s))]
        if isinstance(error, NotResident):
            headers.append(way_header(error.way))
        return status, headers, body

    def _flag(self, node_id: str, error: EdgeForgeError) -> None:
        """Count a request that no agent of ours sends."""
        self.stats.invalid += 1
        if self.ledger.flag(node_id, error.message, self._service.now_mono_ms()):
            _log.warning("invalid request of a peer node=%s reason=%s", node_id, error.message)

    async def _generate(self, request: Request, api: ApiFormat, client: ServerConnection) -> None:
        """Serve from the local engine. Raises: Forbidden, NoReplica, InvalidRequest."""
        service = self._service
        asked = read_peer_request(
            request.headers, str(client.context), service.node_id, service.view()
        )
        self._check_open()
        # What the asking agent checked is checked again: only this agent answers for its engine.
        self._running.add(client, asked)  # before the first wait: the table may change meanwhile
        try:
            fields = await fields_of_large(request.body)
            body = read_body(request.body, api, caps=service.caps, fields=fields)
            if fields is not None:
                await give_way()
            entered = await enter_engine(asked, service, api)
            try:
                place = await wait_for_place(
                    service.engine_door,
                    self._work(asked, body, len(request.body)),
                    service.now_mono_ms,
                )
                try:
                    await self._relay(request, asked, body, client, place, entered)
                finally:
                    service.engine_door.leave(place, service.now_mono_ms())
            finally:
                service.residents.leave(entered.endpoint)
        finally:
            self._running.remove(client)

    def _work(self, asked: PeerRequest, body: GenerationBody, body_bytes: int) -> Work:
        """Return what a peer's request asks of this engine."""
        service = self._service
        deployment = service.view().deployments.get(asked.deployment)
        return Work(
            asked.account,
            SlaTier.STANDARD if deployment is None else deployment.sla_tier,
            body.sequences,
            service.prompt_tokens.estimate(asked.deployment, body_bytes),
            body.max_answer_tokens,
            body_bytes,
        )

    async def _relay(
        self,
        request: Request,
        asked: PeerRequest,
        body: GenerationBody,
        client: ServerConnection,
        place: Place,
        entered: Entered,
    ) -> None:
        """Relay the engine's answer, and give ``place`` back with what was generated.

        Raises: NoReplica, EngineFailed.
        """
        service, api, endpoint = self._service, body.api, entered.endpoint
        self._check_open()
        payload = body.for_engine(
            endpoint.model,
            continuous_usage=endpoint.supports_continuous_usage,
            cache_salt=service.cache_salt(asked.account),
        )
        pool = service.engine_pool(endpoint)
        exchange = PassThrough(
            client,
            api.event_stream(include_usage=True, continuous_usage=True),
            lambda status, headers: response_head(
                status,
                [
                    EVENT_STREAM if status == 200 and body.stream else JSON,
                    *passed_on_headers(headers),
                    (b"transfer-encoding", b"chunked"),
                    load_header(self._load()),
                    timing(request, place, entered.load_ms, service.now_mono_ms()),
                    *entered.headers(),
                    *engine_model(endpoint, asked.model),
                ],
                keep_alive=client.may_keep_alive(request),
            ),
            service.now_mono_ms,
            service.fill.count,
            api.token_mark,
            streams=body.stream,
            embeds=api.embeds,
        )
        message = request_bytes(
            "POST",
            api.path.encode(),
            pool.address.host_header,
            engine_headers(request, body),
            payload,
        )
        # how long to wait is decided where the client is: this connection's end cuts the engine
        try:
            await exchange.run(pool, message)
        finally:
            if exchange.status and not exchange.unfit:
                self._record(request, asked, exchange)
                service.engine_door.leave(place, service.now_mono_ms(), exchange.generated())
        if exchange.ending is Ending.LOST:
            if exchange.unfit:
                raise EngineFailed(f"the engine of node {service.node_id}: {exchange.reason}")
            if not exchange.started:
                raise NoReplica(f"the engine of node {service.node_id} failed: {exchange.reason}")
            self.stats.broken += 1
            client.abort()  # the other agent sees a cut body and ends its client's stream

    def _check_open(self) -> None:
        """Raises: NoReplica while this node drains."""
        if self._service.draining():
            raise NoReplica(f"node {self._service.node_id} is draining")

    def _record(self, request: Request, asked: PeerRequest, exchange: PassThrough) -> None:
        """Leave a record of a request that the engine answered, whole or in part."""
        service = self._service
        usage, took_ms = exchange.usage(), service.now_mono_ms() - request.first_byte_mono_ms
        record = ServedRecord(
            trace_id=trace_id(request).decode(),
            asking_node=asked.asking_node,
            account=asked.account,
            deployment=asked.deployment,
            model=asked.adapter or asked.model,
            path=request.path,
            status=exchange.status,
            complete=exchange.ending is Ending.COMPLETE,
            began_unix_ms=service.now_unix_ms() - int(took_ms),
            took_ms=took_ms,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
        )
        self.ledger.served(record, usage)

    def _answer_probe(self, request: Request, client: ServerConnection) -> None:
        service = self._service
        residents, draining = service.residents, service.draining()
        answer = {
            "node": service.node_id,
            **load_fields(self._load()),
            "ready_models": [] if draining else residents.resident()[:MAX_NAMES],
            "loadable": {} if draining else loadable_field(residents.loadable()),
            "incarnation": service.incarnation(),
        }
        client.respond(request, 200, [JSON], orjson.dumps(answer))

    def _load(self, retry_s: float | None = None) -> PeerLoad:
        """Return the engine's load, in sequences of all agents.

        ``retry_s``: the request was refused because of what else of its account waits here.
        """
        service, door = self._service, self._service.engine_door
        return PeerLoad(
            door.serving,
            door.waiting,
            service.fill.fill_ratio(service.now_mono_ms()),
            service.draining(),
            door.newcomer(),
            retry_s,
        )
