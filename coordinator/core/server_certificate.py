"""When the coordinator's own server certificate is made anew. Pure.

It is made at every start, by the clock of that moment. Under a clock that was wrong then, agents
refuse it once the clock is right, so it is looked at again every minute.
"""

from __future__ import annotations

from protos.domain.certificates import DAY_MS

#: An old certificate is valid for much longer; making one costs a millisecond.
RENEWED_AFTER_MS = 30 * DAY_MS
#: Made further in the future than this: by a clock that was ahead.
AHEAD_MS = 60_000


def is_due(issued_unix_ms: int, now_unix_ms: int) -> bool:
    """Return whether a certificate made at ``issued_unix_ms`` is to be replaced."""
    return not -AHEAD_MS <= now_unix_ms - issued_unix_ms < RENEWED_AFTER_MS
