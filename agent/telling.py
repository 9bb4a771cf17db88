"""What the agent says of itself: status for its operator, samples for monitoring."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from agent.accelerator_figures import accelerator_samples, accelerator_status
from agent.core.engine_status import EngineState
from agent.link.status import NEVER_CONFIRMED_S, CredentialsAge, LinkStatus
from agent.metrics.registry import HistogramSample, Sample
from agent.promise_figures import (
    coverage_samples,
    coverage_status,
    promise_samples,
    promise_status,
)
from protos.domain.resources import ResourceType
from protos.domain.routing_table import digest_to_bytes

if TYPE_CHECKING:
    from agent.artifacts.files import FileStore
    from agent.config import AgentConfig
    from agent.core.coverage import Coverage
    from agent.core.exploration import Exploration
    from agent.core.fill import FillMeter
    from agent.core.half_open import HalfOpenTargets
    from agent.core.hedging import HedgeBudget
    from agent.core.live import LiveState
    from agent.core.prefixes import PrefixMemory
    from agent.drain_state import DrainState
    from agent.gateway.context import GatewayStats
    from agent.gateway.records import RequestRecords
    from agent.gpu.watch import GpuWatch
    from agent.link.identity import Identity
    from agent.link.tables import TableKeeper
    from agent.peers.port import PeerPortStats
    from agent.peers.probe import Prober
    from agent.relay.connections import ConnectionSet
    from agent.replicas import Replicas
    from agent.traces.export import ExportStats
    from agent.traces.keeper import TraceStats

_GATEWAY_HELP = {
    "requests": "Generation requests that clients sent here.",
    "errors": "Requests answered with an error of ours.",
    "replaced": "Attempts replaced by another target before the first byte.",
    "clients_gone": "Requests whose client left before the end.",
    "predicted_misses": "Requests that no target was predicted to serve in time.",
    "hedges_won": "Second copies that served their client.",
    "streams_continued": "Broken streams that another replica brought to their end.",
    "streams_broken": "Streams that ended in an error event.",
    "local": "Requests served by this node's own engine.",
    "to_peers": "Requests served by another node.",
    "prompt_tokens": "Prompt tokens of answered requests.",
    "completion_tokens": "Completion tokens of answered requests.",
}
_EXPORT_HELP = {
    "exported_spans": "Spans that the OTLP receiver took.",
    "failed_spans": "Spans that the OTLP receiver did not take.",
    "dropped_traces": "Traces not exported since too many spans were waiting.",
}


@dataclass(frozen=True, slots=True)
class Telling:
    """Reads every part; changes none."""

    config: AgentConfig
    identity: Callable[[], Identity]
    link: LinkStatus
    tables: TableKeeper
    credentials: CredentialsAge
    replicas: Replicas
    live: LiveState
    hedges: HedgeBudget
    exploration: Exploration
    trials: HalfOpenTargets
    fill: FillMeter
    coverage: Coverage
    prefixes: PrefixMemory
    gateway: GatewayStats
    client_connections: ConnectionSet
    peer_port: PeerPortStats
    prober: Prober
    records: RequestRecords
    traces: TraceStats
    trace_export: ExportStats
    standing: DrainState
    gpu: GpuWatch
    files: FileStore
    now_mono_ms: Callable[[], float]
    now_unix_ms: Callable[[], int]

    def missing(self) -> list[str]:
        """Return what keeps this agent from being ready; empty is ready."""
        missing = []
        if not self.tables.loaded:
            missing.append("a routing table, from disk or from the coordinator")
        if not self.standing.serving:
            missing.append("open ports")
        if self.standing.draining:
            missing.append(self.standing.reason)
        if self.credentials.age_s() > self.config.limits.credentials_max_age_s:
            missing.append("credentials younger than limits.credentials_max_age_s")
        return missing

    def certificate_age_s(self) -> float:
        """Seconds since this node's certificate was issued."""
        return self.identity().age_s(self.now_unix_ms())

    def status(self) -> dict[str, object]:
        """Return everything an operator asks first, as JSON."""
        identity, engine = self.identity(), self.replicas.engine_status
        now = self.now_mono_ms()
        age_s = self.credentials.age_s()
        return {
            "node": identity.node_id,
            "pop": identity.pop_id,
            "ready": not self.missing(),
            "missing": self.missing(),
            "draining": self.standing.draining,
            "draining_reason": self.standing.reason,
            "client_url": self.config.client_url,
            "link": {
                **asdict(self.link),
                "since_s": max(0.0, (now - self.link.since_mono_ms) / 1_000),
            },
            "credentials_age_s": None if age_s == NEVER_CONFIRMED_S else age_s,
            "certificate_age_s": self.certificate_age_s(),
            "certificate_not_after_unix_ms": identity.not_after_unix_ms,
            "tables": {kind.value: self._table(kind) for kind in ResourceType},
            "last_refusal": self.tables.last_refusal,
            "engine": {
                "kind": self.config.engine.kind,
                "state": engine.state.value,
                "pid": engine.pid,
                "restarts": engine.restarts,
                "generation": engine.generation,
                "last_error": engine.last_error,
                "fill_ratio": self.fill.fill_ratio(now),
            },
            "gpu": accelerator_status(self.gpu),
            "replicas": [asdict(held) for held in self.replicas.report()],
            "peers": [asdict(peer) for peer in self.live.peer_views(now)],
            "traces": asdict(self.traces),
            "trace_export": asdict(self.trace_export),
            "first_byte": {
                "replaced": self.gateway.replaced,
                "hedges_sent": self.hedges.sent,
                "hedges_won": self.gateway.hedges_won,
                "hedge_share": self.hedges.share,
                "explorations_sent": self.exploration.budget.sent,
                "explore_share": self.exploration.budget.share,
                "strict_trials": self.trials.sent,
                "ejections": self.live.ejections,
                "ejected": self.live.ejected_now,
            },
            "service": promise_status(self.records),
            "predictions": coverage_status(self.coverage),
            "prefix_blocks": len(self.prefixes),
            "streams_continued": self.gateway.streams_continued,
            "streams_broken": self.gateway.streams_broken,
            "in_flight": self.gateway.in_flight,
            "connections": len(self.client_connections.live),
        }

    def requests(self, limit: int) -> list[dict[str, object]]:
        """Return the latest requests, newest first, as JSON."""
        return [asdict(record) for record in self.records.latest(limit)]

    def samples(self) -> Iterable[Sample | HistogramSample]:
        """Yield every number that monitoring reads."""
        for name, text in _GATEWAY_HELP.items():
            value = float(getattr(self.gateway, name))
            yield Sample(f"edgeforge_gateway_{name}", text, value, counter=True)
        yield Sample(
            "edgeforge_gateway_in_flight", "Requests in progress.", float(self.gateway.in_flight)
        )
        yield from promise_samples(self.gateway.promises)
        yield from coverage_samples(self.coverage)
        yield from self._first_byte_samples()
        yield from self._connection_samples()
        yield from self._table_samples()
        yield from self._engine_samples()
        yield Sample("edgeforge_link_connected", "1 with a coordinator.", self.link.connected)
        yield Sample(
            "edgeforge_link_connects", "Streams that stood.", self.link.connects, counter=True
        )
        yield Sample(
            "edgeforge_credentials_age_seconds",
            "Since the coordinator last confirmed the keys.",
            self.credentials.age_s(),
        )
        yield Sample(
            "edgeforge_certificate_age_seconds",
            "Since this node's certificate was issued.",
            self.certificate_age_s(),
        )
        yield Sample(
            "edgeforge_pulled_bytes",
            "Bytes of models pulled.",
            float(self.files.pulled_bytes),
            counter=True,
        )
        yield from self._trace_samples()
        yield from accelerator_samples(self.gpu)
        yield Sample("edgeforge_draining", "1 refuses new requests.", self.standing.draining)

    def _first_byte_samples(self) -> Iterable[Sample]:
        yield Sample(
            "edgeforge_gateway_hedges_sent",
            "Second copies of late requests.",
            float(self.hedges.sent),
            counter=True,
        )
        yield Sample(
            "edgeforge_gateway_hedge_share", "Second copies over streams.", self.hedges.share
        )
        yield Sample(
            "edgeforge_gateway_explorations_sent",
            "Streams sent to a target to learn of it.",
            float(self.exploration.budget.sent),
            counter=True,
        )
        yield Sample(
            "edgeforge_gateway_strict_trials",
            "Requests of strict deployments let through to try a target predicted late.",
            float(self.trials.sent),
            counter=True,
        )
        yield Sample(
            "edgeforge_prefix_blocks",
            "Blocks of prompts remembered, all engines together.",
            float(len(self.prefixes)),
        )
        yield Sample(
            "edgeforge_targets_ejected", "Targets left alone now.", float(self.live.ejected_now)
        )
        yield Sample(
            "edgeforge_target_ejections",
            "Times a target was ejected.",
            float(self.live.ejections),
            counter=True,
        )

    def _connection_samples(self) -> Iterable[Sample]:
        connections = self.client_connections
        yield Sample("edgeforge_client_connections", "Open.", float(len(connections.live)))
        yield Sample(
            "edgeforge_client_connections_accepted", "Accepted.", connections.accepted, counter=True
        )
        yield Sample(
            "edgeforge_client_connections_refused",
            "Refused over the limit.",
            connections.refused,
            counter=True,
        )
        yield Sample(
            "edgeforge_client_connections_timed_out",
            "Closed for being too slow or idle.",
            connections.timed_out,
            counter=True,
        )
        peer = self.peer_port
        yield Sample("edgeforge_peer_requests", "From other agents.", peer.requests, counter=True)
        yield Sample(
            "edgeforge_peer_refused", "Refused to other agents.", peer.refused, counter=True
        )
        yield Sample("edgeforge_probes", "Probes sent.", self.prober.sent, counter=True)
        yield Sample(
            "edgeforge_probes_failed", "Probes not answered.", self.prober.failed, counter=True
        )

    def _table_samples(self) -> Iterable[Sample]:
        for kind, table in self.tables.tables.items():
            labels = (("type", kind.value),)
            yield Sample(
                "edgeforge_table_rows", "Rows held.", float(len(table.rows)), labels=labels
            )
            yield Sample(
                "edgeforge_table_version", "Version held.", float(table.at.version), labels=labels
            )
            yield Sample(
                "edgeforge_table_refusals_in_a_row",
                "Pushes refused since the last one taken.",
                float(self.tables.refusals[kind]),
                labels=labels,
            )

    def _trace_samples(self) -> Iterable[Sample]:
        traces = self.traces
        yield Sample("edgeforge_traces_kept", "Written to disk.", traces.kept, counter=True)
        yield Sample(
            "edgeforge_traces_dropped",
            "Not kept: too many at once, or the disk did not take them.",
            traces.dropped,
            counter=True,
        )
        for name, text in _EXPORT_HELP.items():
            value = float(getattr(self.trace_export, name))
            yield Sample(f"edgeforge_otlp_{name}", text, value, counter=True)
        yield Sample("edgeforge_traces_rows", "On disk now.", float(traces.rows))
        yield Sample("edgeforge_traces_bytes", "They take on disk.", float(traces.kept_bytes))

    def _engine_samples(self) -> Iterable[Sample]:
        engine = self.replicas.engine_status
        yield Sample(
            "edgeforge_engine_ready",
            "1 serves.",
            float(engine.state is EngineState.READY),
        )
        yield Sample(
            "edgeforge_engine_fill_ratio",
            "Tokens per second of the last minute over what it is known to be able to do.",
            self.fill.fill_ratio(self.now_mono_ms()),
        )
        yield Sample(
            "edgeforge_engine_restarts",
            "Starts after a failure.",
            float(engine.restarts),
            counter=True,
        )

    def _table(self, kind: ResourceType) -> dict[str, object]:
        table = self.tables.tables[kind]
        return {
            "epoch": table.at.epoch,
            "version": table.at.version,
            "rows": len(table.rows),
            "digest": digest_to_bytes(table.digest).hex(),
            "refusals_in_a_row": self.tables.refusals[kind],
        }
