"""Faults of links."""

from __future__ import annotations

import pytest

from coordinator.devfleet.link_faults import Fault, LinkFaults
from protos.domain.errors import InvalidRequest


@pytest.fixture
def faults() -> LinkFaults:
    return LinkFaults(frozenset({"BOM", "DXB", "GRU"}))


def test_a_one_way_fault_affects_no_other_direction_or_link(faults: LinkFaults) -> None:
    faults.apply(Fault.ONE_WAY, "BOM", "DXB")
    assert faults.blocks("BOM", "DXB")
    assert not faults.blocks("DXB", "BOM")
    assert not faults.blocks("GRU", "DXB")


def test_a_cut_blocks_both_directions(faults: LinkFaults) -> None:
    faults.apply(Fault.CUT, "BOM", "DXB")
    assert faults.blocks("BOM", "DXB")
    assert faults.blocks("DXB", "BOM")


def test_half_open_and_refused_apply_to_connections_of_the_source(faults: LinkFaults) -> None:
    faults.apply(Fault.HALF_OPEN, "BOM", "DXB")
    faults.apply(Fault.REFUSE, "GRU", "DXB")
    assert faults.silences("BOM", "DXB")
    assert not faults.silences("DXB", "BOM")
    assert faults.refuses("GRU", "DXB")


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.ONE_WAY, Fault.HALF_OPEN, Fault.REFUSE])
def test_healing_ends_every_fault_of_the_link(faults: LinkFaults, fault: Fault) -> None:
    faults.apply(fault, "BOM", "DXB")
    faults.apply(Fault.HEAL, "DXB", "BOM")
    for pair in (("BOM", "DXB"), ("DXB", "BOM")):
        assert not faults.blocks(*pair)
        assert not faults.silences(*pair)
        assert not faults.refuses(*pair)


def test_an_unknown_host_is_named_with_those_that_are_known(faults: LinkFaults) -> None:
    with pytest.raises(InvalidRequest, match="LAX"):
        faults.apply(Fault.CUT, "BOM", "LAX")
