"""The keys of the agent's configuration, by section; ``config_file`` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.core.exploration import EXPLORE_RATIO
from agent.core.hedging import HEDGE_RATIO
from protos.domain.addresses import join_address
from protos.domain.choice import EDGE_FILL_RATIO
from protos.domain.resources import EngineProfile
from protos.domain.settings import setting, tcp_port

ENV_PREFIX = "EDGEFORGE_AGENT"

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """``[node]``"""

    #: Folder of everything this agent keeps: identity, tables, models, logs. Made with mode 0700.
    state_dir: str = setting()


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """``[coordinator]``"""

    #: host:port of the coordinator's enrolment listener; used by ``enroll`` only.
    enrolment_address: str = setting("")
    #: host:port of the fleet listener; empty: the one given at enrolment.
    fleet_address: str = setting("")
    #: First and longest pause between attempts to reconnect (full jitter between).
    reconnect_min_ms: float = setting(1_000.0, at_least=10)
    reconnect_max_ms: float = setting(60_000.0, at_least=10)
    #: How often health and load are reported.
    status_interval_ms: float = setting(2_000.0, at_least=100, at_most=60_000)


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """``[client]``: the port that customers reach."""

    #: Address to listen on.
    host: str = setting("127.0.0.1")
    port: int = tcp_port(8080)
    #: Base URL that customers use; empty: made of host and port.
    url: str = setting("")
    #: TLS certificate chain and key (PEM); both or neither. Reloaded when they change (SIGHUP too).
    cert_file: str = setting("")
    key_file: str = setting("")
    #: Largest request body; over it: 413.
    max_body_bytes: int = setting(8 * _MIB, at_least=1_024, at_most=1_024 * _MIB)
    #: Largest request head; over it: 431.
    max_header_bytes: int = setting(32 * 1024, at_least=1_024, at_most=_MIB)
    #: Connections at once, on this port and on the peer port; over it an idle one ends for the new
    #: one. Lower if too few files may be open.
    max_connections: int = setting(8_192, at_least=1)
    #: From the first byte of a request to the end of its head; over it: 408.
    header_timeout_ms: float = setting(10_000.0, at_least=10)
    #: From the end of the head to the end of the body; over it: 408.
    body_timeout_ms: float = setting(60_000.0, at_least=10)
    #: A kept-alive connection without a request is closed after this.
    idle_timeout_ms: float = setting(75_000.0, at_least=10)
    #: Origins whose web pages may read responses, such as https://app.example.com; "*": all.
    cors_origins: tuple[str, ...] = setting(())


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """``[peer]``: the port that other agents reach, over mutual TLS."""

    host: str = setting("127.0.0.1")
    port: int = tcp_port(7443)
    #: Where peers dial this node; empty and 0: host and port as listened on.
    advertise_host: str = setting("")
    advertise_port: int = tcp_port(0)
    #: Address that connections to peers are made from, on a host that has several; empty: any.
    source_address: str = setting("")
    #: Warm spare connections kept to a target, and targets kept warm.
    warm_spares: int = setting(2, at_least=0, at_most=64)
    max_warm_targets: int = setting(64, at_least=0, at_most=4_096)
    #: How often a target's round trip and load are probed, and how long an answer may take.
    probe_interval_ms: float = setting(1_000.0, at_least=50)
    probe_timeout_ms: float = setting(2_000.0, at_least=50)


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """``[metrics]``: ``/livez``, ``/readyz`` and ``/metrics``, for this host only."""

    host: str = setting("127.0.0.1")
    port: int = tcp_port(9464)


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """``[admin]``: the Unix socket of ``edgeforge-agent status`` and ``drain``."""

    #: Path of the socket; empty: ``admin.sock`` in the state folder.
    socket: str = setting("")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """``[engine]``: what serves models on this host."""

    #: "vllm": a child process of ours; "external": a server that already runs; "none".
    kind: str = setting("none", choices=("vllm", "external", "none"))
    #: Virtual environment that holds vLLM (packaging/engine/install).
    venv: str = setting(".venv-engine")
    #: Base URL of an external OpenAI-compatible server, such as http://127.0.0.1:8000.
    url: str = setting("")
    #: "generate": it writes text; "embed": it gives embeddings of text.
    mode: str = setting("generate", choices=("generate", "embed"))
    #: vLLM's parser of this model's own tool calls, such as "hermes"; empty: a request in which
    #: the model may or must call a tool is refused.
    tool_parser: str = setting("")
    #: vLLM's parser of this model's reasoning, such as "qwen3"; empty: it is part of the text.
    reasoning_parser: str = setting("")
    #: Further arguments for vLLM, appended last.
    args: tuple[str, ...] = setting(())
    #: What vLLM computes on; "auto" looks for a GPU's device files.
    accelerator: str = setting("auto", choices=("auto", "cpu", "cuda", "rocm"))
    #: Memory for the KV cache, in whole GiB; 0: what is free on a GPU, 1 GiB without one.
    kv_cache_gib: int = setting(0, at_least=0)
    #: Cores for the engine's compute threads on hosts without a GPU, such as "1"; empty: vLLM's.
    cpu_bind: str = setting("")
    #: Longest context served (external: what it was started with); 0: the model's own.
    max_context_tokens: int = setting(0, at_least=0)
    #: LoRA adapters in an engine at once, which vLLM reserves memory for; as many more are kept in
    #: host memory. 0: none are loaded.
    max_adapters: int = setting(8, at_least=0, at_most=256)
    #: Highest rank of an adapter; vLLM reserves memory for it, in steps of 8, 16, 32, 64 and so on.
    max_adapter_rank: int = setting(32, at_least=1, at_most=512)
    #: Engines of this host at once, each with a model; they share its memory in equal parts.
    max_engines: int = setting(1, at_least=1, at_most=16)
    #: vLLM's processes are forked from one that has imported it, which halves a start. On a CPU
    #: only: on a GPU vLLM does so itself.
    preimport: bool = setting(True)
    #: From start to the first real generation; over it the engine is killed and started again.
    start_timeout_ms: float = setting(600_000.0, at_least=1_000)
    #: Without any progress for so long (a token relayed, a probe answered, a change of vLLM's own
    #: counters) a ready engine is ended and started again, an external one used no longer.
    stall_timeout_ms: float = setting(120_000.0, at_least=1_000)
    #: Sequences computed at once: a request counts as its prompts times its answers. What exceeds
    #: them waits in this agent, fairly between accounts; half as many more are kept for accounts
    #: with less than their share.
    max_parallel: int = setting(8, at_least=1, at_most=65_536)
    #: First token of a short prompt on an idle engine, P99, before anything was observed.
    first_token_ms_p99: float = setting(150.0, at_least=0.1)
    #: Further time for each prompt token, before anything was observed.
    prefill_ms_per_token: float = setting(0.7, at_least=0)
    #: Calibrated capacity: tokens generated; of an engine that embeds, tokens of prompts.
    tokens_per_s: float = setting(28.0, at_least=0.001)

    def profile(self) -> EngineProfile:
        """Return what this host's engine is expected to do until it has been observed."""
        return EngineProfile(
            first_token_ms_p99=self.first_token_ms_p99,
            prefill_ms_per_token=self.prefill_ms_per_token,
            max_parallel=self.max_parallel,
            tokens_per_s=self.tokens_per_s,
            embeds=self.mode == "embed",
            context_tokens=self.max_context_tokens,
            lacks_tool_parser=self._lacks_tool_parser,
        )

    @property
    def takes_adapters(self) -> bool:
        """Whether this host's engines are started with room for adapters."""
        return self.kind == "vllm" and self.mode == "generate" and self.max_adapters > 0

    @property
    def _lacks_tool_parser(self) -> bool:
        """Whether vLLM is started without one; unknown, so False, for an external server."""
        named = any(argument.partition("=")[0] == "--tool-call-parser" for argument in self.args)
        return self.kind == "vllm" and not (self.tool_parser or named)


@dataclass(frozen=True, slots=True)
class GpuConfig:
    """``[gpu]``: what watches this host's accelerators."""

    #: "auto" (by device files), "nvml", "amdsmi", "cpu", "none", or a kind installed beside us.
    kind: str = setting("auto")
    #: The engine's own accelerators, by UUID or index: only their faults drain this node, and a
    #: vLLM of ours computes on no other. Empty: those of CUDA_VISIBLE_DEVICES, or of AMD's
    #: variables, in the agent's environment, else all.
    devices: tuple[str, ...] = setting(())
    #: How often they are read, and how long one reading may take before its reader is killed.
    interval_ms: float = setting(1_000.0, at_least=100, at_most=60_000)
    deadline_ms: float = setting(3_000.0, at_least=100, at_most=60_000)


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """``[router]``: how this agent chooses among targets that fit the budget."""

    #: Edge nodes filled to less than this share of their capacity are preferred; 0: price alone.
    edge_fill_ratio: float = setting(EDGE_FILL_RATIO, at_least=0.0, at_most=1.0)
    #: Share of streams that may be sent to a second target when the first is late; 0: none.
    hedge_ratio: float = setting(HEDGE_RATIO, at_least=0.0, at_most=1.0)
    #: Share of streams that may go to a target which is hardly known, to learn of it; 0: none.
    explore_ratio: float = setting(EXPLORE_RATIO, at_least=0.0, at_most=0.1)


@dataclass(frozen=True, slots=True)
class TracesConfig:
    """``[traces]``: what is kept of finished requests, on disk, the newest first."""

    #: Traces kept; over it the oldest go.
    max_rows: int = setting(100_000, at_least=1, at_most=10_000_000)
    #: Bytes they may take; over it the oldest go. The file grows to at most twice of it.
    max_bytes: int = setting(256 * _MIB, at_least=_MIB, at_most=64 * 1_024 * _MIB)


@dataclass(frozen=True, slots=True)
class UsageConfig:
    """``[usage]``: records of requests, kept on disk until the coordinator has counted them."""

    #: Folder of the records; empty: ``usage`` in the state folder. A file system of its own keeps
    #: other files from filling it.
    folder: str = setting("")
    #: Bytes that it may take, half of it at most by records kept here for their zone; over it
    #: billable requests are refused with 503 until the coordinator has taken some.
    quota_bytes: int = setting(4 * 1024 * _MIB, at_least=32 * _MIB, at_most=4_096 * 1024 * _MIB)
    #: Bytes of one file, allocated before they are needed; the quota holds at least eight.
    segment_bytes: int = setting(8 * _MIB, at_least=_MIB, at_most=64 * _MIB)
    #: How long records that may not leave their zone are kept here, after their sums were taken.
    keep_days: int = setting(90, at_least=1, at_most=3_650)
    #: Pause between two batches to the coordinator, unless one is full.
    ship_interval_ms: float = setting(1_000.0, at_least=10, at_most=60_000)


@dataclass(frozen=True, slots=True)
class TelemetryConfig:
    """``[telemetry]``: traces exported by OpenTelemetry's protocol; needs the extra ``otlp``."""

    #: URL that takes OTLP traces over HTTP, such as http://127.0.0.1:4318/v1/traces; empty: none.
    otlp_endpoint: str = setting("")
    #: Residency zone of that receiver; empty: not said, so that it gets no trace of a request that
    #: is bound to zones.
    zone: str = setting("")
    #: File of headers sent along, ``name: value`` a line: for keys, so readable by its owner only.
    otlp_headers_file: str = setting("")
    #: Share of requests exported, chosen by trace id.
    sample_ratio: float = setting(1.0, at_least=0.0, at_most=1.0)
    #: Spans that may wait to be sent; over it whole traces are dropped, and counted.
    max_queued_spans: int = setting(4_096, at_least=64, at_most=1_000_000)
    #: How long one sending may take, repetitions included.
    export_timeout_ms: float = setting(10_000.0, at_least=100, at_most=600_000)


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """``[limits]``"""

    #: Requests in progress on the client port; over it: 429. One account alone gets eight ninths
    #: of them, several share what is left, so that another one always finds room.
    max_in_flight: int = setting(4_096, at_least=1)
    #: Bytes of request bodies in memory at once, of both ports, from their head to the end of their
    #: answer; over it, or over the share of one account or node: 429. At least 4 of the largest.
    max_body_bytes_in_flight: int = setting(512 * _MIB, at_least=_MIB)
    #: Requests that wait for a place at the local engine, of all accounts and agents; over it the
    #: account with the most of them gets 429, with a time to retry.
    max_engine_waiting: int = setting(4_096, at_least=1)
    #: Bytes of the bodies of those; over it likewise.
    max_engine_waiting_bytes: int = setting(256 * _MIB, at_least=_MIB)
    #: Targets tried for one request before its first byte.
    max_attempts: int = setting(3, at_least=1, at_most=16)
    #: After so long without a byte from an engine or a peer it is checked whether that target is
    #: still reachable, and whether the client still reads. An attempt is given up only if not, or
    #: if another target can continue its stream.
    stream_idle_timeout_ms: float = setting(120_000.0, at_least=100)
    #: Longest wait for the first byte of an answer, and between two.
    max_wait_ms: float = setting(21_600_000.0, at_least=1_000)
    #: A stream's client that has had no byte for so long is sent a comment (a ping in the Messages
    #: format), and again at that pace; 0: never.
    stream_heartbeat_ms: float = setting(5_000.0, at_least=0)
    #: Connecting to an engine or a peer.
    connect_timeout_ms: float = setting(2_000.0, at_least=10)
    #: Bytes buffered towards a client that reads slowly before the engine is held back.
    client_buffer_bytes: int = setting(256 * 1024, at_least=4_096)
    #: Largest ``n`` and ``prompt_logprobs`` a request may ask for.
    max_n: int = setting(8, at_least=1)
    max_prompt_logprobs: int = setting(5, at_least=0)
    #: Inputs of one embeddings request, and prompts of one completions request.
    max_inputs: int = setting(2_048, at_least=1)
    #: Prompts times answers (``n``) of one request for text; over it: 400.
    max_sequences: int = setting(128, at_least=1)
    #: Finished requests remembered for ``edgeforge-agent status``.
    max_records: int = setting(10_000, at_least=1)
    #: Cut off from the coordinator for longer than this, keys are no longer accepted.
    credentials_max_age_s: float = setting(604_800.0, at_least=1)
    #: How long running requests may go on after a stop was asked.
    drain_timeout_ms: float = setting(60_000.0, at_least=0)
    #: Models pulled at once, and as many adapters.
    max_pulls: int = setting(4, at_least=1, at_most=64)
    #: Bytes a second that this node pulls, and that it sends to other nodes that pull; 0: no limit.
    pull_bytes_per_s: int = setting(0, at_least=0)
    serve_bytes_per_s: int = setting(0, at_least=0)


@dataclass(frozen=True, slots=True)
class ArtifactsConfig:
    """``[artifacts]``: models and adapters on this host's disk."""

    #: GiB that they may take; the least recently used leave for others. 0: nine tenths of what the
    #: disk of the state folder has for them.
    quota_gib: int = setting(0, at_least=0)


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """The whole file."""

    node: NodeConfig
    coordinator: CoordinatorConfig
    client: ClientConfig
    peer: PeerConfig
    metrics: MetricsConfig
    admin: AdminConfig
    engine: EngineConfig
    gpu: GpuConfig
    router: RouterConfig
    traces: TracesConfig
    usage: UsageConfig
    telemetry: TelemetryConfig
    limits: LimitsConfig
    artifacts: ArtifactsConfig

    @property
    def state_dir(self) -> Path:
        return Path(self.node.state_dir)

    @property
    def identity_dir(self) -> Path:
        return self.state_dir / "identity"

    @property
    def usage_dir(self) -> Path:
        return Path(self.usage.folder) if self.usage.folder else self.state_dir / "usage"

    @property
    def admin_socket(self) -> Path:
        return Path(self.admin.socket) if self.admin.socket else self.state_dir / "admin.sock"

    @property
    def coordinator_address(self) -> str:
        """host:port of the coordinator as configured; empty when only the identity has it."""
        return self.coordinator.fleet_address or self.coordinator.enrolment_address

    @property
    def client_url(self) -> str:
        """Base URL for customers."""
        scheme = "https" if self.client.cert_file else "http"
        address = join_address(self.client.host, self.client.port)
        return self.client.url or f"{scheme}://{address}"

    @property
    def peer_address(self) -> tuple[str, int]:
        """Host and port that peers dial."""
        return (
            self.peer.advertise_host or self.peer.host,
            self.peer.advertise_port or self.peer.port,
        )
