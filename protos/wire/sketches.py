"""Mergeable quantile sketches of latencies: counts by logarithmic bin, 1 % relative accuracy.

Source: C. Masson et al., "DDSketch: a fast and fully-mergeable quantile sketch with
relative-error guarantees", VLDB 2019; the bins are those of the ``ddsketch`` package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ddsketch.mapping import LogarithmicMapping
from google.protobuf.message import DecodeError

from protos.domain.errors import InvalidRequest
from protos.v1 import usage_pb2

#: Of a quantile, relative to the exact one.
RELATIVE_ACCURACY = 0.01
#: Values outside are counted at the nearest bound: 1 to about 51 days of microseconds.
MIN_VALUE = 1
MAX_VALUE = 2**42
MAX_COUNT = 2**48

_MAPPING = LogarithmicMapping(RELATIVE_ACCURACY)


def bin_of(value: float) -> int:
    """Return the bin of a value."""
    return int(_MAPPING.key(min(max(value, MIN_VALUE), MAX_VALUE)))


MAX_BIN = bin_of(MAX_VALUE)


class Sketch:
    """How often values were in each bin; merging adds the counts, in any order."""

    __slots__ = ("bins",)

    def __init__(self, bins: Mapping[int, int] | None = None) -> None:
        self.bins: dict[int, int] = dict(bins or {})

    @classmethod
    def of(cls, values: Iterable[float]) -> Sketch:
        """Return the sketch of ``values``."""
        sketch = cls()
        for value in values:
            sketch.add(value)
        return sketch

    def add(self, value: float) -> None:
        """Count one value."""
        number = bin_of(value)
        self.bins[number] = self.bins.get(number, 0) + 1

    def merge(self, other: Sketch) -> None:
        """Add the counts of ``other``."""
        for number, count in other.bins.items():
            self.bins[number] = self.bins.get(number, 0) + count

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.bins.values())

    def quantile(self, ratio: float) -> float | None:
        """Return the value that ``ratio`` of the values do not exceed; None without any."""
        rank = ratio * (self.count - 1)
        below = 0
        for number in sorted(self.bins):
            below += self.bins[number]
            if below > rank:
                return float(_MAPPING.value(number))
        return None

    def count_to(self, value: float) -> int:
        """Return how many values are at or below ``value``, as far as bins can tell."""
        last = bin_of(value)
        return sum(count for number, count in self.bins.items() if number <= last)

    def to_bytes(self) -> bytes:
        """Return the sketch as it is sent; empty without any value."""
        numbers = sorted(self.bins)
        steps = [after - before for before, after in zip([0, *numbers], numbers, strict=False)]
        counts = [self.bins[number] for number in numbers]
        return usage_pb2.QuantileSketch(bin_steps=steps, counts=counts).SerializeToString()

    @classmethod
    def from_bytes(cls, payload: bytes) -> Sketch:
        """Return the sketch that was sent. Raises: InvalidRequest."""
        try:
            message = usage_pb2.QuantileSketch.FromString(payload)
        except DecodeError as error:
            raise InvalidRequest("malformed quantile sketch") from error
        steps, counts = list(message.bin_steps), list(message.counts)
        if len(steps) != len(counts) or len(steps) > MAX_BIN + 1:
            raise InvalidRequest(f"a quantile sketch of {len(steps)} bins, {len(counts)} counts")
        sketch, number = cls(), 0
        for place, (step, count) in enumerate(zip(steps, counts, strict=True)):
            number += step
            if (step == 0 and place) or number > MAX_BIN or not 0 < count <= MAX_COUNT:
                raise InvalidRequest("a quantile sketch with an impossible bin")
            sketch.bins[number] = count
        return sketch
