"""How the answers of spooled records ended, as notes say it: one byte a record. Pure."""

from __future__ import annotations

#: Notes of numbers further ahead than this are not believed.
MAX_AHEAD = 50_000_000


class Outcomes:
    """Cause codes by number, from the first that is not delivered yet."""

    def __init__(self, first_seq: int = 1) -> None:
        self._first = first_seq
        self._codes = bytearray()

    def note(self, first_seq: int, count: int, code: int) -> None:
        """Take a run; what was said first of a record stays. Raises: ValueError."""
        if count > MAX_AHEAD or first_seq + count - self._first > MAX_AHEAD:
            raise ValueError(f"a note of {count} records from {first_seq} on")
        begin = max(first_seq, self._first) - self._first
        end = first_seq + count - self._first
        if end <= begin:
            return
        codes = self._codes
        if len(codes) < end:
            codes.extend(bytes(end - len(codes)))
        for at in range(begin, end):
            if not codes[at]:
                codes[at] = code

    def code(self, seq: int) -> int:
        """Return what was said of ``seq``; 0: nothing."""
        at = seq - self._first
        return self._codes[at] if 0 <= at < len(self._codes) else 0

    def forget_before(self, seq: int) -> None:
        """Records before ``seq`` are of no interest any more."""
        if seq > self._first:
            del self._codes[: seq - self._first]
            self._first = seq
