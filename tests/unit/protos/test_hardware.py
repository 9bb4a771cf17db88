"""What a host can hold."""

from __future__ import annotations

from protos.domain.hardware import UNKNOWN_HARDWARE, NodeHardware


def test_a_host_that_does_not_say_how_many_engines_it_runs_has_one():
    assert UNKNOWN_HARDWARE.engines == 1
    assert NodeHardware(max_engines=3).engines == 3


def test_a_host_that_says_nothing_takes_no_adapters():
    assert (UNKNOWN_HARDWARE.max_adapters, UNKNOWN_HARDWARE.max_adapter_rank) == (0, 0)
