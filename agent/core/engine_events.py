"""What an engine's machine takes and gives: events in the past tense, commands in the imperative.

``engine_lifecycle`` decides; a driver performs the commands and reports what came of them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.core.engine_liveness import Counters


class ProbeKind(enum.StrEnum):
    """What is asked of an engine."""

    LISTENING = "listening"
    GENERATION = "generation"


@dataclass(frozen=True, slots=True)
class StartRequested:
    """The engine shall run."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The engine shall not run."""


@dataclass(frozen=True, slots=True)
class ProcessStarted:
    """The process of ``generation`` exists; an external engine has no ``pid``."""

    generation: int
    pid: int | None


@dataclass(frozen=True, slots=True)
class ProcessNotStarted:
    """There is no process of ``generation`` and there was none."""

    generation: int
    reason: str
    #: False: no retry helps before the configuration or the host is changed.
    retryable: bool


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """The process of ``generation`` and everything that it had started are gone."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class ProbeSucceeded:
    """Probe ``probe`` was answered."""

    probe: int


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """Probe ``probe`` was answered with an error, or not in time."""

    probe: int
    reason: str


@dataclass(frozen=True, slots=True)
class ProgressSeen:
    """Tokens of this engine's answers were relayed, the last at ``at_mono_ms``."""

    at_mono_ms: float


@dataclass(frozen=True, slots=True)
class CountersRead:
    """Reading ``reading`` ended; None: the engine has no counters, or gave none in time."""

    reading: int
    counters: Counters | None


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """``next_deadline_ms`` may have come; early is harmless."""


Event = (
    StartRequested
    | StopRequested
    | ProcessStarted
    | ProcessNotStarted
    | ProcessExited
    | ProbeSucceeded
    | ProbeFailed
    | ProgressSeen
    | CountersRead
    | DeadlinePassed
)


@dataclass(frozen=True, slots=True)
class SpawnProcess:
    """Start it; report ``ProcessStarted`` or ``ProcessNotStarted``, and later ``ProcessExited``."""

    generation: int


@dataclass(frozen=True, slots=True)
class SendProbe:
    """Ask, and report ``ProbeSucceeded`` or ``ProbeFailed`` within ``timeout_ms``."""

    probe: int
    kind: ProbeKind
    timeout_ms: float


@dataclass(frozen=True, slots=True)
class ReadCounters:
    """Read the engine's own counters and report ``CountersRead`` within ``timeout_ms``."""

    reading: int
    timeout_ms: float


@dataclass(frozen=True, slots=True)
class TerminateProcess:
    """Ask the process of ``generation`` to end."""

    generation: int


@dataclass(frozen=True, slots=True)
class KillProcess:
    """End the process of ``generation`` and its whole tree, now."""

    generation: int


Command = SpawnProcess | SendProbe | ReadCounters | TerminateProcess | KillProcess
