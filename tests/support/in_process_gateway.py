"""The gateway of one agent in this process: the product's own parts, with the test's engines.

For tests that need real sockets on both sides of a request, and no fleet.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

from agent.clock import now_mono_ms, now_unix_ms
from agent.config import LimitsConfig
from agent.core.clock_watch import ClockWatch
from agent.core.coverage import Coverage
from agent.core.engine_admission import EngineAdmission
from agent.core.engine_door import EngineDoor
from agent.core.engine_status import EngineEndpoint
from agent.core.exploration import Exploration
from agent.core.fill import FillMeter
from agent.core.half_open import HalfOpenTargets
from agent.core.hedging import HedgeBudget
from agent.core.live import LiveState
from agent.core.prefixes import PrefixMemory
from agent.core.prompt_tokens import PromptTokens
from agent.core.request.state import RouterState
from agent.core.request.timing import RequestPolicy
from agent.core.served_comparison import ServedComparison
from agent.drain_state import DrainState, OpenEngines
from agent.formats import FORMATS
from agent.formats.body_rules import BodyCaps
from agent.gateway.context import GatewayContext
from agent.gateway.handler import GenerationHandler
from agent.gateway.metering import UsageMeter
from agent.gateway.records import RequestRecords
from agent.gateway.running import RunningRequests
from agent.gateway.stats import GatewayStats
from agent.gateway.targets import Target
from agent.loads import Loads
from agent.relay.messages import Request, request_bytes
from agent.relay.server import ServerConnection
from agent.relay.upstream_pool import UpstreamPool
from agent.trace_ids import TraceIds
from protos.domain.customers import Account, ApiKey
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.predictor import Predictor
from protos.domain.resources import Deployment
from tests.support.fleets import deployment
from tests.support.meters import KeptMeter
from tests.support.request_world import fleet
from tests.support.residents import StandInResidents
from tests.support.served import Served, served

SECRET = "ef-secret"
_KEY = ApiKey("k1", hashlib.sha256(SECRET.encode()).digest(), "acme", (), 0)


class _Pools:
    """Every node of the table, each with the connections that the test gave for it."""

    def __init__(self, pools: Mapping[str, UpstreamPool]) -> None:
        self._pools = pools

    def find(
        self,
        node_id: str,
        model: str,
        *,
        embeds: bool,
        adapter: str = "",
        endpoint: EngineEndpoint | None = None,
    ) -> Target | None:
        pool = self._pools.get(node_id)
        name = model if endpoint is None else endpoint.model
        return None if pool is None else Target(node_id, pool, name, True, node_id != "near")


@dataclass
class InProcessGateway:
    """A client port on a real socket, with its logs and traces."""

    server: Served
    gateway: GatewayContext
    stats: GatewayStats

    @property
    def records(self) -> RequestRecords:
        return self.gateway.records


def table(first_token_ms: dict[str, float], of: Deployment | None = None) -> FleetView:
    """Return a fleet with one deployment and one key that may call it."""
    rows = (Account("acme"), _KEY, of or deployment())
    return with_changes(fleet(first_token_ms), (), rows)


def chat_request(
    body: bytes = b'{"model":"small","stream":true,"messages":[]}', *headers: tuple[bytes, bytes]
) -> bytes:
    """Return the bytes of a signed request."""
    signed = [(b"authorization", f"Bearer {SECRET}".encode()), *headers]
    return request_bytes("POST", b"/v1/chat/completions", b"x", signed, body)


def gateway_context(
    view: FleetView,
    pools: Mapping[str, UpstreamPool] | None = None,
    policy: RequestPolicy | None = None,
    residents: StandInResidents | None = None,
    meter: UsageMeter | None = None,
) -> GatewayContext:
    """Return what the gateway of node ``near`` needs, in front of ``pools``."""
    state = RouterState(
        node_id="near",
        view=lambda: view,
        own_engines=OpenEngines(residents or StandInResidents(), DrainState("near")),
        is_warm=lambda node_id: True,
        draw=random.Random(1).random,
        live=LiveState(),
        engine_door=EngineDoor(EngineAdmission(4)),
        prefixes=PrefixMemory(),
        predictor=Predictor(),
        coverage=Coverage(),
        prompt_tokens=PromptTokens(),
        hedges=HedgeBudget(0.0),
        exploration=Exploration(0.0),
        half_open=HalfOpenTargets(),
        own_fill=FillMeter(400.0),
        edge_fill_ratio=0.0,
    )
    for node_id in view.nodes:
        state.live.probed(node_id, 1.0, now_mono_ms())
    return GatewayContext(
        pop_id="NEAR",
        limits=LimitsConfig(),
        caps=BodyCaps(8, 5, 2_048),
        policy=policy or RequestPolicy(),
        state=state,
        targets=_Pools(pools or {}),
        loads=Loads(residents or StandInResidents()),
        records=RequestRecords(100),
        traces=lambda make, matters: None,
        meter=meter or KeptMeter(),
        served=ServedComparison(),
        running=RunningRequests(),
        clocks=ClockWatch(),
        require_credentials=lambda: None,
        clock_offset_ms=lambda: 0.0,
        cache_salt=lambda account: f"salt-of-{account}",
        now_mono_ms=now_mono_ms,
        now_unix_ms=now_unix_ms,
        make_trace_id=TraceIds().make,
    )


@contextlib.asynccontextmanager
async def in_process_gateway(
    pools: Mapping[str, UpstreamPool],
    view: FleetView | None = None,
    policy: RequestPolicy | None = None,
    residents: StandInResidents | None = None,
    meter: UsageMeter | None = None,
) -> AsyncIterator[InProcessGateway]:
    """Serve a client port whose node is ``near``, in front of ``pools``."""
    view = view or table(dict.fromkeys(pools, 20.0))
    gateway = gateway_context(view, pools, policy, residents, meter)
    stats = GatewayStats()
    handler = GenerationHandler(gateway, stats)

    async def serve(request: Request, client: ServerConnection) -> None:
        await handler.serve(FORMATS[request.path], request, client)

    async with served(serve, max_header_bytes=8_192, max_body_bytes=1_000_000) as server:
        yield InProcessGateway(server, gateway, stats)


def replaced_policy(**changes: float) -> RequestPolicy:
    """Return the default policy with ``changes``."""
    return replace(RequestPolicy(), **changes)  # type: ignore[arg-type]
