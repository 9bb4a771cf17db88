"""The gateway's dependencies, which ``agent.main`` assembles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agent.core.account_limits import AccountLimits

if TYPE_CHECKING:
    from agent.config import LimitsConfig
    from agent.core.clock_watch import ClockWatch
    from agent.core.engine_status import EngineEndpoint
    from agent.core.request.state import RouterState
    from agent.core.request.timing import RequestPolicy
    from agent.core.served_comparison import ServedComparison
    from agent.formats.body_rules import BodyCaps
    from agent.gateway.metering import UsageMeter
    from agent.gateway.records import RequestRecords
    from agent.gateway.running import RunningRequests
    from agent.gateway.targets import Target
    from agent.loads import Loads
    from protos.domain.trace import Trace

#: Takes the trace of a finished request, as a function that makes it: to be called once, on any
#: thread. Must not block. The flag: the request failed or was late.
TraceSink = Callable[[Callable[[], "Trace"], bool], None]


class TargetFinder(Protocol):
    """Connections to the local engine and to peers."""

    def find(
        self,
        node_id: str,
        model: str,
        *,
        embeds: bool,
        adapter: str = "",
        endpoint: EngineEndpoint | None = None,
    ) -> Target | None:
        """Return ``node_id`` ready to be asked, or None if it no longer is."""


async def no_wait() -> None:
    """Wait for nothing: no coordinator is asked."""


@dataclass(frozen=True, slots=True)
class GatewayContext:
    """Everything that the gateway needs beyond the request itself."""

    pop_id: str
    limits: LimitsConfig
    #: Limits of the costly fields of a body.
    caps: BodyCaps
    policy: RequestPolicy
    #: The state on which requests are decided.
    state: RouterState
    targets: TargetFinder
    #: Loads at this node.
    loads: Loads
    records: RequestRecords
    #: Where traces of finished requests go.
    traces: TraceSink
    #: Where records of admitted requests go.
    meter: UsageMeter
    #: Compares what is billed with what serving agents have counted.
    served: ServedComparison
    running: RunningRequests
    clocks: ClockWatch
    require_credentials: Callable[[], None]
    #: Returns how far this host's clock is behind the coordinator's.
    clock_offset_ms: Callable[[], float]
    #: Returns an account's salt on this node's engine.
    cache_salt: Callable[[str], str]
    now_mono_ms: Callable[[], float]
    now_unix_ms: Callable[[], int]
    make_trace_id: Callable[[], str]
    account_limits: AccountLimits = field(default_factory=AccountLimits)
    #: Waits a moment until the coordinator has been asked for quota.
    wait_for_quota: Callable[[], Awaitable[None]] = no_wait
