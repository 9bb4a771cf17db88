"""What this node says of itself to its coordinator: who it is, once, and how it is, every 2 s."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

from agent.link.reports import SelfDescription, hello, status

if TYPE_CHECKING:
    from agent.config import AgentConfig
    from agent.core.live import LiveState
    from agent.drain_state import DrainState
    from agent.gateway.context import GatewayStats
    from agent.gateway.records import RequestRecords
    from agent.gpu.watch import GpuWatch
    from agent.link.identity import Identity
    from agent.link.status import CredentialsAge
    from agent.link.tables import TableKeeper
    from agent.peers.port import PeerPort
    from agent.replicas import Replicas
    from protos.v1 import fleet_pb2


@dataclass(frozen=True, slots=True)
class Introduction:
    """Reads every part that the coordinator wants to know of; changes none."""

    config: AgentConfig
    identity: Callable[[], Identity]
    tables: TableKeeper
    credentials: CredentialsAge
    replicas: Replicas
    live: LiveState
    gateway: GatewayStats
    peer_port: PeerPort
    records: RequestRecords
    standing: DrainState
    gpu: GpuWatch
    now_mono_ms: Callable[[], float]
    now_unix_ms: Callable[[], int]
    #: Another one after each start.
    boot_id: str = field(default_factory=lambda: secrets.token_hex(8))

    def hello(self) -> fleet_pb2.Hello:
        """Return the first message of a stream."""
        config = self.config
        peer_host, peer_port = config.peer_address
        about = SelfDescription(
            node_id=self.identity().node_id,
            boot_id=self.boot_id,
            agent_version=version("edgeforge"),
            peer_host=peer_host,
            peer_port=peer_port or self.peer_port.port,
            client_url=config.client_url,
            engine_kind=config.engine.kind,
            profile=config.engine.profile(),
        )
        return hello(about, self.tables)

    def status(self) -> fleet_pb2.Status:
        """Return how the node is now."""
        identity = self.identity()
        return status(
            self.tables,
            replicas=self.replicas.report(),
            peers=self.live.peer_views(self.now_mono_ms()),
            in_flight=self.gateway.in_flight,
            engine_in_flight=self.peer_port.stats.in_flight + self.live.in_flight(identity.node_id),
            draining_reason=self.standing.own_reason,
            accelerators=self.gpu.readings,
            faults=self.gpu.faults,
            credentials_age_s=self.credentials.age_s(),
            service=self.records.service(),
            certificate_age_s=identity.age_s(self.now_unix_ms()),
        )
