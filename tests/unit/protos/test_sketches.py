"""Quantile sketches: their accuracy, their merging, their bytes."""

import math

import pytest
from ddsketch import DDSketch
from hypothesis import given
from hypothesis import strategies as st

from protos.domain.errors import InvalidRequest
from protos.v1.usage_pb2 import QuantileSketch
from protos.wire.sketches import MAX_BIN, Sketch, bin_of

_VALUES = st.lists(st.integers(1, 2**40), min_size=1, max_size=200)


@given(_VALUES, st.floats(0.0, 1.0))
def test_a_quantile_is_within_one_percent(values: list[int], ratio: float) -> None:
    exact = sorted(values)[math.floor(ratio * (len(values) - 1))]
    found = Sketch.of(values).quantile(ratio)
    assert found == pytest.approx(exact, rel=0.0101)


@given(_VALUES)
def test_quantiles_are_those_of_the_package(values: list[int]) -> None:
    theirs = DDSketch(0.01)
    for value in values:
        theirs.add(value)
    for ratio in (0.0, 0.5, 0.99, 1.0):
        assert Sketch.of(values).quantile(ratio) == pytest.approx(
            theirs.get_quantile_value(ratio), rel=1e-9
        )


@given(_VALUES, _VALUES)
def test_merging_is_the_sketch_of_all_values(some: list[int], others: list[int]) -> None:
    merged = Sketch.of(some)
    merged.merge(Sketch.of(others))
    assert merged.bins == Sketch.of(some + others).bins


@given(st.lists(st.floats(0.0, 1e15), max_size=50))
def test_bytes_and_back(values: list[float]) -> None:
    sketch = Sketch.of(values)
    assert Sketch.from_bytes(sketch.to_bytes()).bins == sketch.bins


def test_nothing_has_no_quantile_and_no_bytes() -> None:
    assert Sketch().quantile(0.5) is None
    assert Sketch().to_bytes() == b""


def test_values_at_or_below_a_bound_are_counted() -> None:
    assert Sketch.of([10, 20, 30, 5_000]).count_to(100) == 3


@pytest.mark.parametrize(
    "message",
    [
        QuantileSketch(bin_steps=[1, 2], counts=[1]),
        QuantileSketch(bin_steps=[1, 0], counts=[1, 1]),
        QuantileSketch(bin_steps=[MAX_BIN + 1], counts=[1]),
        QuantileSketch(bin_steps=[1], counts=[0]),
        QuantileSketch(bin_steps=[1], counts=[2**60]),
        QuantileSketch(bin_steps=[1] * 5_000, counts=[1] * 5_000),
    ],
)
def test_a_hostile_sketch_is_refused(message: QuantileSketch) -> None:
    with pytest.raises(InvalidRequest, match="sketch"):
        Sketch.from_bytes(message.SerializeToString())
    with pytest.raises(InvalidRequest, match="malformed"):
        Sketch.from_bytes(b"\xff\xff")


def test_what_is_out_of_range_counts_at_the_bound() -> None:
    assert bin_of(0) == bin_of(1) == 0
    assert bin_of(1e30) == MAX_BIN
