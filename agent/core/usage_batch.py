"""What is sent to the coordinator of one spool at once, and what its answer means. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

#: Records, counters and damaged numbers in one batch, and bytes of its records.
MAX_BATCH_RECORDS = 2_000
MAX_BATCH_BYTES = 1_048_576


@dataclass(slots=True)
class UsageBatch:
    """Everything of one spool from ``first_seq`` to ``last_seq``; empty: asks for the watermark."""

    spool_id: str
    first_seq: int
    last_seq: int
    #: Number and serialised record.
    records: list[tuple[int, bytes]] = field(default_factory=list)
    #: Serialised lines of sums.
    counters: list[bytes] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    damaged_bytes: int = 0


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The coordinator's answer. ``zone`` is where it keeps records; empty: not said."""

    watermark: int
    refused: bool = False
    reason: str = ""
    zone: str = ""
    #: Until the next batch that is not full, at least: the fleet is large.
    pause_ms: float = 0.0


class Next(enum.Enum):
    """What to do after an answer."""

    #: All of the batch is counted.
    GO_ON = "go_on"
    #: A part of it, or more than it: send from the number after the watermark.
    SEEK = "seek"
    #: The same answer again: wait before that.
    SEEK_LATER = "seek_later"


def after_answer(batch: UsageBatch, answer: BatchAnswer, *, sought: bool) -> Next:
    """Return what follows an answer; ``sought``: the batch itself followed from one."""
    if answer.watermark == batch.last_seq and not answer.refused:
        return Next.GO_ON
    if answer.refused and (sought or answer.watermark + 1 == batch.first_seq):
        return Next.SEEK_LATER
    return Next.SEEK
