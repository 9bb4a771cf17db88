"""This host's address towards another, as proposed for a configuration."""

from __future__ import annotations

import pytest

from agent.own_address import own_address


@pytest.mark.parametrize(
    ("towards", "own"),
    [("127.0.0.1:7401", "127.0.0.1"), ("nowhere", None), ("no.such.name.invalid:1", None)],
)
def test_the_address_that_packets_leave_from(towards, own):
    assert own_address(towards) == own
