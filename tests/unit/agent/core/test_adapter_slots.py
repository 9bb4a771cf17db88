"""The ledger of an engine's adapters: least recently used goes, never one in use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.adapter_slots import AdapterPlace, AdapterSlots, SlotPlan
from protos.domain.errors import Overloaded


def filled(*names: str, max_active: int = 2, max_known: int = 3) -> AdapterSlots:
    slots = AdapterSlots(max_active, max_known)
    for name in names:
        slots.begin(name)
        slots.loaded(name)
    return slots


def test_an_adapter_is_active_once_it_is_loaded():
    slots = AdapterSlots(2, 2)
    assert slots.begin("a") == SlotPlan((), load=True)
    assert slots.place_of("a") is AdapterPlace.LOADING
    assert not slots.is_active("a")
    slots.loaded("a")
    assert slots.is_active("a")
    assert slots.begin("a") == SlotPlan((), load=False)


def test_the_least_recently_used_gives_up_its_slot_and_is_kept_in_memory():
    slots = filled("a", "b")
    slots.enter("a")
    slots.leave("a")
    assert slots.begin("c") == SlotPlan((), load=True)
    assert slots.place_of("b") is AdapterPlace.KEPT
    assert slots.is_active("a")


def test_a_kept_one_becomes_active_without_being_loaded_again():
    slots = filled("a", "b", "c")
    assert slots.place_of("a") is AdapterPlace.KEPT
    assert slots.begin("a") == SlotPlan((), load=False)
    slots.loaded("a")
    assert slots.is_active("a")
    assert slots.place_of("b") is AdapterPlace.KEPT


def test_what_exceeds_the_engines_memory_is_unloaded():
    slots = filled("a", "b", "c")
    assert slots.begin("d") == SlotPlan(("a",), load=True)
    assert slots.place_of("a") is None


def test_one_in_flight_is_never_taken_out():
    slots = filled("a", "b")
    slots.enter("a")
    slots.begin("c")
    assert slots.is_active("a")
    assert slots.place_of("b") is AdapterPlace.KEPT


def test_it_refuses_while_every_slot_is_in_use():
    slots = filled("a", "b")
    slots.enter("a")
    slots.enter("b")
    assert not slots.can_take("c")
    with pytest.raises(Overloaded) as refused:
        slots.begin("c")
    assert refused.value.retryable
    slots.leave("b")
    assert slots.begin("c").load


def test_one_that_is_being_loaded_keeps_its_slot():
    slots = AdapterSlots(1, 1)
    slots.begin("a")
    with pytest.raises(Overloaded):
        slots.begin("b")


def test_one_that_failed_leaves_its_slot():
    slots = AdapterSlots(1, 1)
    slots.begin("a")
    slots.failed("a")
    assert slots.begin("b").load


def test_an_engine_that_starts_again_holds_nothing():
    slots = filled("a", "b")
    slots.enter("a")
    slots.clear()
    assert slots.known == []
    assert slots.in_flight("a") == 0
    slots.leave("a")  # of the run before


def test_an_engine_without_slots_takes_none():
    slots = AdapterSlots(0, 0)
    assert not slots.can_take("a")
    with pytest.raises(Overloaded):
        slots.begin("a")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "loaded", "failed", "enter", "leave"]),
            st.sampled_from("abcdef"),
        ),
        max_size=60,
    )
)
def test_the_limits_hold_and_nothing_in_use_goes_whatever_happens(acts):
    slots = AdapterSlots(2, 4)
    uses: dict[str, int] = {}
    for act, name in acts:
        if act == "begin":
            try:
                slots.begin(name)
            except Overloaded:
                continue
        elif act == "loaded":
            if slots.place_of(name) is AdapterPlace.LOADING:
                slots.loaded(name)
        elif act == "failed":
            if slots.place_of(name) is AdapterPlace.LOADING:
                slots.failed(name)
        elif act == "enter":
            if slots.is_active(name):
                slots.enter(name)
                uses[name] = uses.get(name, 0) + 1
        elif uses.get(name):
            slots.leave(name)
            uses[name] -= 1
        in_slots = slots.names(AdapterPlace.ACTIVE) + slots.names(AdapterPlace.LOADING)
        assert len(in_slots) <= 2
        assert len(slots.known) <= 4
        for one, count in uses.items():
            assert slots.in_flight(one) == count
            assert not count or slots.is_active(one)
