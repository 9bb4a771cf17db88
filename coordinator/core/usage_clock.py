"""When a request is believed to have begun: agents' clocks may be wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from protos.domain.usage_record import UsageRecord

#: How far an agent's estimate of the coordinator's clock may lead it.
MAX_AHEAD_MS = 120_000
#: How much later than requests behind it in the spool one may have ended.
MAX_DISORDER_MS = 900_000
#: Longer than any request lasts.
_LONGEST_MS = 86_400_000
_MINUTE_MS = 60_000


class Believed(NamedTuple):
    """The time that a record is counted at."""

    began_unix_ms: int
    #: The record's own time is impossible.
    suspect: bool
    #: Latest end of a request of this spool so far.
    newest_unix_ms: int


def believed_minute(
    minute_unix_ms: int, arrived_unix_ms: int, newest_unix_ms: int
) -> tuple[int, int]:
    """Return the minute that sums are counted at, and the latest time of the spool then.

    The same for sums, of whose requests only the minute of their start is known: one that is
    earlier than a request can have lasted, and a future one, become the latest of the spool.
    """
    minute = minute_unix_ms
    if not newest_unix_ms - MAX_DISORDER_MS - _LONGEST_MS <= minute <= arrived_unix_ms:
        minute = min(newest_unix_ms, arrived_unix_ms)
        minute -= minute % _MINUTE_MS
        return minute, newest_unix_ms
    return minute, max(newest_unix_ms, minute)


def believed(record: UsageRecord, arrived_unix_ms: int, newest_unix_ms: int) -> Believed:
    """Return the believed start of a request.

    A request cannot have begun after its record arrived, and records of one spool are in the order
    of their ends, give or take. So a start in the future becomes the arrival, and one whose end
    lies further back than the disorder allows becomes the latest end of the spool. An agent that
    was cut off for long is believed: nothing of its spool came in between. ``newest_unix_ms`` is
    that of the records before it, and when its node enrolled for the first one.
    """
    began, suspect = record.began_unix_ms, False
    if began > arrived_unix_ms + MAX_AHEAD_MS:
        began, suspect = arrived_unix_ms, True
    ended = min(began + (record.ttft_us + record.stream_us) // 1_000, arrived_unix_ms)
    if ended < newest_unix_ms - MAX_DISORDER_MS:
        began = ended = min(newest_unix_ms, arrived_unix_ms)
        suspect = True
    # A suspect time moves nobody's bound.
    return Believed(began, suspect, newest_unix_ms if suspect else max(newest_unix_ms, ended))
