from __future__ import annotations

import itertools

import pytest

from coordinator.core.hub_uploads import (
    BASIC_BYTES,
    PART_BYTES,
    SLOWEST_BYTES_PER_S,
    is_too_slow,
    part_count,
    part_span,
)
from protos.domain.errors import InvalidRequest


@pytest.mark.parametrize("size_bytes", [BASIC_BYTES + 1, 3 * PART_BYTES, 10**10 + 7])
def test_the_parts_are_the_whole_file(size_bytes):
    spans = [part_span(size_bytes, part) for part in range(1, part_count(size_bytes) + 1)]
    assert spans[0][0] == 0
    assert sum(length for _, length in spans) == size_bytes
    assert all(start + length == after for (start, length), (after, _) in itertools.pairwise(spans))


def test_a_small_file_has_no_parts():
    assert part_count(BASIC_BYTES) == 0


@pytest.mark.parametrize("part", [0, -1, 4])
def test_a_part_that_is_not_there_is_refused(part):
    with pytest.raises(InvalidRequest):
        part_span(3 * PART_BYTES, part)


def test_an_upload_is_too_slow_when_less_than_a_lines_worth_arrives_on_average():
    assert not is_too_slow(0, 59_000)
    assert is_too_slow(0, 61_000)
    assert not is_too_slow(SLOWEST_BYTES_PER_S, 61_000)
    assert is_too_slow(100 * SLOWEST_BYTES_PER_S, 200_000)
