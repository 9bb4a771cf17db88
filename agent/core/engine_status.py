"""An engine's state as the rest of the agent sees it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class EngineState(enum.StrEnum):
    """The states of an engine's life cycle."""

    ABSENT = "absent"
    STARTING = "starting"
    WARMING = "warming"
    READY = "ready"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EngineEndpoint:
    """Where a ready engine listens: a private Unix socket, or the host and port of an external one.

    ``model`` is the model's name in requests.
    """

    model: str
    uds_path: str | None
    host: str | None
    port: int | None
    tls: bool
    supports_continuous_usage: bool
    #: It serves embeddings and generates no text.
    embeds: bool = False
    #: Counts what was put into this engine: each start and each swap is another generation.
    generation: int = 0


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """An engine at one moment; ``generation`` grows with every process start."""

    state: EngineState
    endpoint: EngineEndpoint | None
    generation: int
    restarts: int
    since_mono_ms: float
    last_error: str | None
    pid: int | None
