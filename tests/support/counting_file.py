"""A coordinator whose counts outlive the process that pushes: a file, appended to in one write."""

from __future__ import annotations

import json
import os
from pathlib import Path

from agent.core.usage_batch import BatchAnswer, UsageBatch
from tests.support.counting_coordinator import CountingCoordinator


class CountingFile(CountingCoordinator):
    """What is in the file is committed; a batch is one line."""

    def __init__(self, path: Path, **options: object) -> None:
        super().__init__(**options)
        self._path = path
        self._writes = False
        for line in path.read_text().splitlines() if path.exists() else ():
            self.take(_batch_of(json.loads(line)))
        self._writes = True

    def take(self, batch: UsageBatch) -> BatchAnswer:
        before = dict(self.watermarks)
        answer = super().take(batch)
        if self._writes and self.watermarks != before:
            line = json.dumps(
                [
                    batch.spool_id,
                    batch.first_seq,
                    batch.last_seq,
                    [[seq, payload.hex()] for seq, payload in batch.records],
                    [line.hex() for line in batch.counters],
                    batch.damaged,
                ]
            )
            append_line(self._path, line)
        return answer


def append_line(path: Path, line: str) -> None:
    """Append with one call of the system, so that a kill leaves all of it or nothing."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, line.encode() + b"\n")
    os.close(fd)


def _batch_of(line: list) -> UsageBatch:
    spool_id, first, last, records, counters, damaged = line
    return UsageBatch(
        spool_id,
        first,
        last,
        [(seq, bytes.fromhex(payload)) for seq, payload in records],
        [bytes.fromhex(one) for one in counters],
        damaged,
    )
