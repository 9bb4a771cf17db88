"""What the peer port gets from the rest of the agent, and what it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.samples import Samples, counter_samples

if TYPE_CHECKING:
    from agent.core.engine_door import EngineDoor
    from agent.core.engine_status import EngineEndpoint
    from agent.core.fill import FillMeter
    from agent.core.prompt_tokens import PromptTokens
    from agent.formats.body import BodyCaps
    from agent.loads import Loads, Residents
    from agent.relay.upstream_pool import UpstreamPool
    from protos.domain.fleet_view import FleetView

_HELP = {
    "requests": "Requests from other agents.",
    "refused": "Requests of other agents that were refused.",
    "invalid": "Of these, requests that no agent of ours sends; their node is flagged.",
}


@dataclass(slots=True)
class PeerPortStats:
    """Counters of other agents' requests; ``_HELP`` names those that are metrics."""

    requests: int = 0
    in_flight: int = 0
    refused: int = 0
    invalid: int = 0
    broken: int = 0

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield the counters."""
        yield from counter_samples("edgeforge_peer_", self, _HELP)


@dataclass(frozen=True, slots=True)
class PeerService:
    """What the peer port gets from ``agent.data_plane``."""

    node_id: str
    view: Callable[[], FleetView]
    #: The same limits as for this agent's own clients.
    caps: BodyCaps
    #: Returns an account's salt on this node's engine.
    cache_salt: Callable[[str], str]
    residents: Residents
    loads: Loads
    engine_pool: Callable[[EngineEndpoint], UpstreamPool]
    #: Changes with every start of the engine.
    incarnation: Callable[[], str]
    fill: FillMeter
    engine_door: EngineDoor
    prompt_tokens: PromptTokens
    draining: Callable[[], bool]
    now_mono_ms: Callable[[], float]
    now_unix_ms: Callable[[], int]
