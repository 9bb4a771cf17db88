"""How descriptors are divided between ports."""

from __future__ import annotations

import pytest

from agent.core.descriptors import MIN_CONNECTIONS, Descriptors, divide

WANTED = Descriptors(client=8_192, peer=8_192, upstream=4_224)


def test_everything_is_granted_where_there_is_enough() -> None:
    assert divide(WANTED.needed, WANTED) == WANTED


@pytest.mark.parametrize("allowed", [1_024, 4_096, 8_192, WANTED.needed - 1])
def test_no_port_can_take_what_another_needs(allowed: int) -> None:
    divided = divide(allowed, WANTED)
    assert divided.needed <= allowed
    assert divided.client == divided.peer > MIN_CONNECTIONS
    assert divided.upstream > MIN_CONNECTIONS


@pytest.mark.parametrize("allowed", [0, 64, 300])
def test_a_port_has_a_few_connections_however_little_is_allowed(allowed: int) -> None:
    least = min(divide(allowed, WANTED).client, divide(allowed, WANTED).upstream)
    assert least == MIN_CONNECTIONS


def test_a_small_wish_is_not_raised() -> None:
    assert divide(0, Descriptors(2, 3, 4)) == Descriptors(2, 3, 4)
