"""When the node's certificate is renewed: decided anew each minute from the certificate in hand.

Times are the coordinator's: this host's clock plus its offset to the coordinator's. So a host whose
clock was wrong, at enrolment or at start, renews as soon as the clock or the offset is right. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.core.backoff import BackoffPolicy, full_jitter_ms
from protos.domain.certificates import DAY_MS, node_issued_unix_ms

#: A renewed certificate is used for about a day.
RENEWED_AFTER_MS = float(DAY_MS)
#: A certificate issued further in the future than this was issued under a clock that was ahead.
AHEAD_MS = 3_600_000.0
#: Even under clocks that jump, renewals are at least so far apart.
SHORTEST_PAUSE_MS = 600_000.0
#: Between attempts after a failure; the coordinator allows a node one renewal a minute.
RETRY = BackoffPolicy(base_ms=120_000.0, cap_ms=1_800_000.0)
SHORTEST_RETRY_MS = 30_000.0


def renewal_due_unix_ms(not_after_unix_ms: int, now_unix_ms: int, jitter: float) -> int:
    """Return when a certificate is to be renewed, ``now_unix_ms`` if that has passed.

    A day after its issue with 10 % of ``jitter`` in [0, 1] to both sides; at once when it was
    issued in the future. ``now_unix_ms`` is by the coordinator's clock.
    """
    issued_unix_ms = node_issued_unix_ms(not_after_unix_ms)
    if issued_unix_ms - now_unix_ms > AHEAD_MS:
        return now_unix_ms
    due_unix_ms = issued_unix_ms + int(RENEWED_AFTER_MS * (0.9 + 0.2 * jitter))
    return max(due_unix_ms, now_unix_ms)


@dataclass(slots=True)
class RenewalMachine:
    """Whether to renew now, after what has succeeded and failed so far."""

    jitter: float
    failures: int = 0
    #: What the last attempt failed with; empty after a success.
    last_error: str = ""
    _not_before_mono_ms: float = field(default=float("-inf"))

    def due(self, not_after_unix_ms: int, now_unix_ms: int, now_mono_ms: float) -> bool:
        """Return whether to renew now; ``now_unix_ms`` is by the coordinator's clock."""
        if now_mono_ms < self._not_before_mono_ms:
            return False
        return renewal_due_unix_ms(not_after_unix_ms, now_unix_ms, self.jitter) <= now_unix_ms

    def renewed(self, now_mono_ms: float, draw: float) -> None:
        """Note a success; ``draw`` in [0, 1] spreads the next renewal."""
        self.failures, self.last_error, self.jitter = 0, "", draw
        self._not_before_mono_ms = now_mono_ms + SHORTEST_PAUSE_MS

    def failed(self, error: str, now_mono_ms: float, draw: float) -> None:
        """Note a failure: the next attempt comes after a pause that grows."""
        self.failures, self.last_error = self.failures + 1, error
        pause_ms = max(SHORTEST_RETRY_MS, full_jitter_ms(RETRY, self.failures, draw))
        self._not_before_mono_ms = now_mono_ms + pause_ms
