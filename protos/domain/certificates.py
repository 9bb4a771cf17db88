"""How long certificates live, known to both sides: one issues them, the other renews in time."""

from __future__ import annotations

DAY_MS = 24 * 3_600_000
NODE_LIFE_MS = 30 * DAY_MS
OPERATOR_LIFE_MS = 60 * DAY_MS
#: A certificate is valid from this long before its issue, since clocks differ: a host whose clock
#: is late accepts the coordinator's, and a certificate issued under a clock that was ahead is
#: valid as soon as that clock has been set right. Above the longest life of a node's.
BACKDATED_MS = 35 * DAY_MS


def node_issued_unix_ms(not_after_unix_ms: int) -> int:
    """Return when a node's certificate was issued, by the coordinator's clock then."""
    return not_after_unix_ms - NODE_LIFE_MS
