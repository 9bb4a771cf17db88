"""What the rest of the agent may know of an engine."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class EngineState(enum.StrEnum):
    """Where an engine is in its life."""

    ABSENT = "absent"
    STARTING = "starting"
    WARMING = "warming"
    READY = "ready"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EngineEndpoint:
    """Where a ready engine listens: a Unix socket of ours, or a host and port of its operator's.

    ``model`` is the name to put into requests.
    """

    model: str
    uds_path: str | None
    host: str | None
    port: int | None
    tls: bool
    supports_continuous_usage: bool
    #: It gives embeddings, and generates nothing.
    embeds: bool = False


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One moment of an engine; ``generation`` grows with every process start."""

    state: EngineState
    endpoint: EngineEndpoint | None
    generation: int
    restarts: int
    since_mono_ms: float
    last_error: str | None
    pid: int | None
