"""A swap of weights, as transcripts: what it does, and what it leaves if it dies midway."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.swap_machine import (
    RESET_ATTEMPTS,
    AdaptersOut,
    CheckWeights,
    CloseGate,
    Drain,
    Drained,
    DrainTimedOut,
    EngineDied,
    EngineReady,
    OpenGate,
    PrefixReset,
    ReloadWeights,
    ResetPrefix,
    RestartEngine,
    StepFailed,
    SwapEnded,
    SwapMachine,
    SwapRequested,
    SwapState,
    TakeAdaptersOut,
    WeightsChecked,
    WeightsReloaded,
)

OLD, NEW = "acme/base@1", "acme/tuned@1"
#: The events of a swap that succeeds, each with what it asks for.
WAY = (
    (SwapRequested(NEW), [CloseGate(), Drain()]),
    (Drained(), [TakeAdaptersOut()]),
    (AdaptersOut(), [ReloadWeights(NEW)]),
    (WeightsReloaded(), [ResetPrefix()]),
    (PrefixReset(True), [CheckWeights(NEW)]),
    (WeightsChecked(""), [OpenGate(NEW, 8), SwapEnded("")]),
)


def machine() -> SwapMachine:
    return SwapMachine(OLD, 7)


def until(stage: int) -> SwapMachine:
    """Return a machine that has taken the first ``stage`` events of the way."""
    swap = machine()
    for event, commands in WAY[:stage]:
        assert swap.handle(event) == commands
    return swap


def test_a_swap_that_succeeds():
    swap = until(len(WAY))
    assert (swap.model, swap.generation, swap.state) == (NEW, 8, SwapState.OPEN)


def test_the_gate_is_closed_from_the_request_to_the_check():
    swap = machine()
    for event, _commands in WAY[:-1]:
        swap.handle(event)
        assert not swap.is_open
    swap.handle(WAY[-1][0])
    assert swap.is_open


@pytest.mark.parametrize("stage", range(1, len(WAY)))
def test_an_engine_that_dies_at_any_stage_comes_back_with_the_old_model(stage):
    swap = until(stage)
    (ended,) = swap.handle(EngineDied("killed by signal 9"))
    assert isinstance(ended, SwapEnded)
    assert "killed by signal 9" in ended.error
    assert (swap.state, swap.model) == (SwapState.RESTARTING, OLD)
    assert swap.handle(EngineReady()) == [OpenGate(OLD, 8)]


def test_requests_that_do_not_end_in_time_keep_their_model():
    swap = until(1)
    opened, ended = swap.handle(DrainTimedOut())
    assert opened == OpenGate(OLD, 7)
    assert ended.error
    assert swap.is_open


def test_an_adapter_that_cannot_be_unloaded_stops_the_swap_before_it_touches_weights():
    swap = until(2)
    assert swap.handle(StepFailed("no answer")) == [OpenGate(OLD, 7), SwapEnded("no answer")]


@pytest.mark.parametrize(
    ("stage", "failure"),
    [
        (3, StepFailed("no such file")),
        (4, StepFailed("no answer")),
        (5, StepFailed("no answer")),
        (5, WeightsChecked("a logprob differs by 3.000")),
    ],
)
def test_what_fails_after_weights_were_touched_is_undone_and_checked(stage, failure):
    swap = until(stage)
    assert swap.handle(failure) == [ReloadWeights(OLD)]
    assert swap.handle(WeightsReloaded()) == [ResetPrefix()]
    assert swap.handle(PrefixReset(True)) == [CheckWeights(OLD)]
    opened, ended = swap.handle(WeightsChecked(""))
    assert opened == OpenGate(OLD, 8)
    assert ended.error
    assert swap.model == OLD


@pytest.mark.parametrize("failure", [StepFailed("again"), WeightsChecked("differs")])
def test_weights_that_cannot_be_brought_back_are_never_served(failure):
    swap = until(5)
    swap.handle(WeightsChecked("differs"))
    if isinstance(failure, WeightsChecked):
        swap.handle(WeightsReloaded())
        swap.handle(PrefixReset(True))
    assert swap.handle(failure) == [RestartEngine(OLD), SwapEnded("differs")]
    assert not swap.is_open
    assert swap.handle(EngineReady()) == [OpenGate(OLD, 8)]


def test_a_prefix_cache_that_is_still_held_is_emptied_again():
    swap = until(4)
    for _ in range(RESET_ATTEMPTS - 1):
        assert swap.handle(PrefixReset(False)) == [ResetPrefix()]
    assert swap.handle(PrefixReset(False)) == [ReloadWeights(OLD)]


def test_an_engine_that_dies_while_none_is_swapped_comes_back_under_a_new_generation():
    swap = machine()
    assert swap.handle(EngineDied("killed")) == [CloseGate()]
    assert swap.handle(EngineReady()) == [OpenGate(OLD, 8)]


def test_a_second_swap_may_follow():
    swap = until(len(WAY))
    assert swap.handle(SwapRequested(OLD)) == [CloseGate(), Drain()]


def test_a_swap_to_what_is_served_is_none():
    assert machine().handle(SwapRequested(OLD)) == []


EVENTS = st.sampled_from(
    [
        *(event for event, _ in WAY),
        DrainTimedOut(),
        PrefixReset(False),
        WeightsChecked("differs"),
        StepFailed("failed"),
        EngineDied("died"),
        EngineReady(),
    ]
)


@given(st.lists(EVENTS, max_size=80))
def test_the_gate_opens_only_over_weights_that_were_checked_or_started_with(events):
    swap = machine()
    held, checked = OLD, True
    for event in events:
        if isinstance(event, EngineDied):
            held, checked = swap.model, False
        if isinstance(event, EngineReady) and swap.state is SwapState.RESTARTING:
            held, checked = swap.model, True
        if event == WeightsChecked("") and swap.state is SwapState.CHECKING:
            checked = True
        before = swap.generation
        for command in swap.handle(event):
            if isinstance(command, ReloadWeights):
                held, checked = command.model, False
            if isinstance(command, OpenGate):
                assert checked
                assert command.model == held == swap.model
                assert command.generation >= before
        assert swap.generation in (before, before + 1)
