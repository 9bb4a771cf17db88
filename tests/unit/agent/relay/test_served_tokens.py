"""The count of a serving agent behind its answer."""

from __future__ import annotations

import pytest

from agent.relay.served_tokens import SERVED_TRAILER, end_with_served, read_served
from protos.domain.pricing import MAX_TOKENS, Usage


def trailer(value: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"x-other", b"1"), (SERVED_TRAILER, value)]


def test_what_is_told_is_read_again() -> None:
    end = end_with_served(Usage(10, 4, 20))
    last, _, fields = end.partition(b"\r\n")
    assert (last, fields[-4:]) == (b"0", b"\r\n\r\n")
    assert read_served(trailer(fields.split(b": ")[1].strip())) == Usage(10, 4, 20)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"prompt=1",
        b"prompt=a;cached=0;completion=1",
        b"prompt=-1;cached=0;completion=1",
        b"prompt=%d;cached=0;completion=1" % (MAX_TOKENS + 1),
        b"prompt=" + b"1" * 80,
    ],
)
def test_what_is_no_count_is_not_told(value: bytes) -> None:
    assert read_served(trailer(value)) is None
    assert read_served([]) is None
