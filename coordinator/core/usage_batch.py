"""A batch of one spool, and which part of it is new."""

from __future__ import annotations

import enum
import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from protos.domain.usage_counters import CounterSums

#: Numbers in one batch.
MAX_BATCH_RECORDS = 10_000
MAX_BATCH_COUNTERS = 10_000
#: Largest record; a larger one is put in quarantine by its first bytes.
MAX_RECORD_BYTES = 4_096
_MAX_SEQ = 2**62
_SPOOL_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(slots=True)
class SpoolBatch:
    """What an agent has sent of one of its spools; ``records`` are numbers and messages.

    An empty one, of which the last number is the one before the first, asks for the watermark.
    """

    node: str
    spool: str
    first_seq: int
    last_seq: int
    records: Sequence[tuple[int, bytes]]
    counters: Sequence[CounterSums] = ()
    #: Counters that cannot be read, with the reason.
    unreadable: Sequence[tuple[bytes, str]] = ()
    damaged: Sequence[int] = ()
    arrived_unix_ms: int = 0
    #: When the node became a part of the fleet: it served nothing before.
    enrolled_unix_ms: int = 0


class Verdict(enum.Enum):
    """What is done with a batch."""

    #: Its numbers above the watermark are counted.
    TAKE = "take"
    #: All of it was counted before.
    KNOWN = "known"
    #: Numbers before it are missing.
    GAP = "gap"


def check_batch(batch: SpoolBatch) -> None:
    """Raises: InvalidRequest for a batch that no spool of ours makes."""
    if not _SPOOL_ID.fullmatch(batch.spool):
        raise InvalidRequest("a spool is named by 32 hexadecimal digits")
    # An empty one, of which the last is before the first, asks for the watermark and the zone.
    empty = not (batch.records or batch.counters or batch.unreadable or batch.damaged)
    last_seq = batch.last_seq + 1 if empty else batch.last_seq
    if not 1 <= batch.first_seq <= last_seq <= _MAX_SEQ:
        raise InvalidRequest(
            f"a batch from {batch.first_seq} to {batch.last_seq}", "numbers count from 1"
        )
    if batch.last_seq - batch.first_seq >= MAX_BATCH_RECORDS:
        raise InvalidRequest(f"a batch of more than {MAX_BATCH_RECORDS} numbers", "send less")
    if len(batch.counters) + len(batch.unreadable) > MAX_BATCH_COUNTERS:
        raise InvalidRequest(f"a batch of more than {MAX_BATCH_COUNTERS} counters", "send less")
    if len(batch.damaged) > MAX_BATCH_RECORDS:
        raise InvalidRequest(f"a batch of more than {MAX_BATCH_RECORDS} damaged numbers")
    seqs = [seq for seq, _ in batch.records]
    if any(after <= before for before, after in itertools.pairwise(seqs)):
        raise InvalidRequest("the records of a batch are not in the order of their numbers")
    if seqs and not batch.first_seq <= seqs[0] <= seqs[-1] <= batch.last_seq:
        raise InvalidRequest("a record outside of its batch")


def verdict_on(batch: SpoolBatch, watermark: int) -> Verdict:
    """Return what is done with ``batch`` when everything up to ``watermark`` is counted.

    A batch with counters that begins at or below the watermark and ends above it cannot be told
    apart into old and new sums, so the agent sends it again from the watermark on.
    """
    if batch.last_seq <= watermark:
        return Verdict.KNOWN
    if batch.first_seq > watermark + 1:
        damaged = set(batch.damaged)
        between = range(watermark + 1, batch.first_seq)
        if len(between) > len(damaged) or not damaged.issuperset(between):
            return Verdict.GAP
    if batch.first_seq <= watermark and (batch.counters or batch.unreadable):
        return Verdict.GAP
    return Verdict.TAKE


def missing_seqs(batch: SpoolBatch, watermark: int) -> list[int]:
    """Return the new numbers that neither records nor damaged ones nor counters cover."""
    if batch.counters or batch.unreadable:
        return []
    first = max(batch.first_seq, watermark + 1)
    if len(batch.records) == batch.last_seq - batch.first_seq + 1:
        return []
    there = {seq for seq, _ in batch.records}
    there.update(batch.damaged)
    return [seq for seq in range(first, batch.last_seq + 1) if seq not in there]


def ranges_of(seqs: Iterable[int]) -> list[tuple[int, int]]:
    """Return first and last of each run of consecutive numbers, in order."""
    runs: list[tuple[int, int]] = []
    for seq in sorted(set(seqs)):
        if runs and seq == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], seq)
        else:
            runs.append((seq, seq))
    return runs
