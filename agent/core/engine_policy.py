"""Time limits and probe intervals of an engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.core.backoff import BackoffPolicy

#: No progress for so long, and a ready engine counts as stalled.
STALL_TIMEOUT_MS = 120_000.0
#: From the latest progress to a stall each step takes at most this part of the stall timeout.
_STEPS_PER_STALL = 4


@dataclass(frozen=True, slots=True)
class EnginePolicy:
    """Timeouts and limits of one kind of engine."""

    #: From spawn to the first generation; longer only while a warming engine makes progress.
    start_timeout_ms: float = 600_000
    #: Between probes of an engine that does not listen yet, or failed to generate while warming.
    start_probe_interval_ms: float = 250
    listen_timeout_ms: float = 1_000
    #: A ready engine without any progress for so long is ended.
    stall_timeout_ms: float = STALL_TIMEOUT_MS
    #: For one generation of one token by a ready engine; it may wait behind other requests.
    generate_timeout_ms: float = 30_000
    #: A ready engine is probed after so long without progress, and its counters read as often.
    live_probe_interval_ms: float = 15_000
    #: A probe unanswered for so long is overdue: the engine's own counters are read.
    overdue_ms: float = 5_000
    counters_timeout_ms: float = 2_000
    #: Between a failed probe of a ready engine and the next.
    live_probe_retry_ms: float = 1_000
    #: From a polite request to end until the whole tree is killed.
    stop_grace_ms: float = 10_000
    #: Between kills of a tree that does not go.
    kill_interval_ms: float = 5_000
    backoff: BackoffPolicy = field(default_factory=lambda: BackoffPolicy(500, 60_000))
    #: Earlier failures are forgotten once it has been ready for so long.
    healthy_after_ms: float = 60_000
    #: Failed starts in a row before the state says ``failed``.
    start_failures: int = 5
    #: Between starts of a failed engine: it comes back once its host has free disk space again.
    failed_retry_ms: float = 300_000

    def share_of_stall_ms(self, wanted_ms: float) -> float:
        """Return ``wanted_ms``, or less where several must fit into a short stall timeout."""
        return min(wanted_ms, self.stall_timeout_ms / _STEPS_PER_STALL)
