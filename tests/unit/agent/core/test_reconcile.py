"""The next steps from what a node is to hold and what it holds."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.core.engine_choice import ChoicePolicy, EngineView
from agent.core.reconcile import (
    DRAIN_MS,
    Held,
    MakeResident,
    Pull,
    Step,
    StopEngine,
    loadable_names,
    next_steps,
)
from protos.domain.resources import DesiredAdapter, DesiredReplica, Hold, ModelSource

POLICY = ChoicePolicy(min_residence_ms=1_000.0, hot_idle_ms=10_000.0)
NOW_MS = 60_000.0
KEY = b"k" * 32


def desired(
    *models: str,
    source: ModelSource = ModelSource.MANAGED,
    hold: Hold = Hold.HOT,
    key: bytes = b"",
) -> dict[str, DesiredReplica]:
    return {
        name: DesiredReplica(name, source, (), 2_048, hold=hold, swap_key=key) for name in models
    }


def adapters(*names: str, model: str = "a/m@1", hold: Hold = Hold.HOT) -> dict[str, DesiredAdapter]:
    return {name: DesiredAdapter(name, model, 8, (), hold) for name in names}


def engine(model: str, index: int = 0, **changed: object) -> EngineView:
    view = EngineView(index, model, b"", False, True, 0, 0.0, 0.0)
    return replace(view, **changed)


def steps(
    wanted: dict[str, DesiredReplica],
    held: Held,
    of_adapters: dict[str, DesiredAdapter] | None = None,
    most: int = 1,
) -> list[Step]:
    return next_steps(
        wanted,
        of_adapters or {},
        held,
        max_engines=most,
        policy=POLICY,
        now_mono_ms=NOW_MS,
    )


def have(*whole: str, engines: tuple[EngineView, ...] = (), **more: object) -> Held:
    return Held(frozenset(whole), engines=engines, **more)


def test_no_desired_and_no_held_model_needs_no_step() -> None:
    assert steps({}, Held()) == []


def test_missing_files_are_pulled_once() -> None:
    wanted = desired("a/m@1")
    assert steps(wanted, Held()) == [Pull(wanted["a/m@1"])]
    assert steps(wanted, Held(pulling=frozenset({"a/m@1"}))) == []


def test_what_is_to_be_on_disk_is_pulled_and_not_loaded() -> None:
    wanted = desired("a/m@1", hold=Hold.DISK)
    assert steps(wanted, Held()) == [Pull(wanted["a/m@1"])]
    assert steps(wanted, have("a/m@1")) == []


def test_what_comes_on_demand_is_neither_pulled_nor_loaded() -> None:
    assert steps(desired("a/m@1", hold=Hold.ON_DEMAND), Held()) == []


def test_whole_files_of_a_hot_model_are_loaded_once() -> None:
    wanted = desired("a/m@1")
    assert steps(wanted, have("a/m@1")) == [MakeResident("a/m@1")]
    assert steps(wanted, have("a/m@1", loading=frozenset({"a/m@1"}))) == []
    assert steps(wanted, have("a/m@1", engines=(engine("a/m@1"),))) == []


def test_one_that_failed_rests() -> None:
    assert steps(desired("a/m@1"), have("a/m@1", resting=frozenset({"a/m@1"}))) == []


def test_a_model_no_longer_wanted_is_stopped() -> None:
    assert steps({}, have("a/m@1", engines=(engine("a/m@1"),))) == [StopEngine(0)]


def test_an_engine_whose_model_is_wanted_no_longer_ends_its_requests_first() -> None:
    busy = replace(engine("a/m@1"), in_flight=1, last_used_ms=NOW_MS - DRAIN_MS + 1)
    assert steps({}, have("a/m@1", engines=(busy,))) == []
    idle = replace(busy, in_flight=0)
    assert steps({}, have("a/m@1", engines=(idle,))) == [StopEngine(0)]


def test_requests_that_never_end_keep_no_engine_that_is_wanted_no_longer() -> None:
    stuck = replace(engine("a/m@1"), in_flight=1, last_used_ms=NOW_MS - DRAIN_MS)
    assert steps({}, have("a/m@1", engines=(stuck,))) == [StopEngine(0)]


def test_another_model_is_pulled_while_the_old_engine_stops_and_starts_when_it_is_gone() -> None:
    wanted = desired("a/new@1")
    old = (engine("a/old@1"),)
    assert steps(wanted, have("a/old@1", engines=old)) == [
        Pull(wanted["a/new@1"]),
        StopEngine(0),
    ]
    assert steps(wanted, have("a/new@1")) == [MakeResident("a/new@1")]


def test_an_unwanted_model_is_swapped_for_one_of_its_shape() -> None:
    old = engine("a/old@1", swap_key=KEY, resident_since_ms=-float("inf"))
    assert steps(desired("a/new@1", key=KEY), have("a/new@1", engines=(old,))) == [
        MakeResident("a/new@1")
    ]


def test_of_several_hot_models_the_first_by_name_get_the_engines() -> None:
    wanted = desired("b/m@1", "a/m@1", "c/m@1")
    whole = ("a/m@1", "b/m@1", "c/m@1")
    assert steps(wanted, have(*whole)) == [MakeResident("a/m@1")]
    first = (engine("a/m@1"),)
    assert steps(wanted, have(*whole, engines=first)) == []
    assert steps(wanted, have(*whole, engines=first), most=2) == [MakeResident("b/m@1")]


def test_a_hot_model_takes_no_other_hot_models_engine_however_idle() -> None:
    wanted = desired("a/m@1", "b/m@1", key=KEY)
    idle = engine("b/m@1", swap_key=KEY, hot=True)
    assert steps(wanted, have("a/m@1", "b/m@1", engines=(idle,))) == []


def test_a_model_that_becomes_hot_takes_the_engine_of_a_busy_one_that_was_there_before() -> None:
    wanted = desired("a/m@1", key=KEY) | desired("b/m@1", hold=Hold.DISK, key=KEY)
    busy = engine(
        "b/m@1", swap_key=KEY, in_flight=3, last_used_ms=NOW_MS, resident_since_ms=NOW_MS - 1_000
    )
    whole = ("a/m@1", "b/m@1")
    later = {"a/m@1": NOW_MS - 500}
    assert steps(wanted, have(*whole, engines=(busy,), hot_since_ms=later)) == [
        MakeResident("a/m@1")
    ]
    # One that requests have put there since then stays while it is used.
    before = {"a/m@1": NOW_MS - 2_000}
    assert steps(wanted, have(*whole, engines=(busy,), hot_since_ms=before)) == []
    young = replace(busy, resident_since_ms=NOW_MS - 999)
    assert steps(wanted, have(*whole, engines=(young,), hot_since_ms=later)) == []


def test_a_hot_model_comes_back_when_the_one_that_was_asked_for_is_idle() -> None:
    wanted = desired("a/m@1", key=KEY) | desired("b/m@1", hold=Hold.ON_DEMAND, key=KEY)
    used = engine("b/m@1", swap_key=KEY, last_used_ms=NOW_MS - 9_999)
    whole = ("a/m@1", "b/m@1")
    assert steps(wanted, have(*whole, engines=(used,))) == []
    idle = replace(used, last_used_ms=NOW_MS - 10_000)
    assert steps(wanted, have(*whole, engines=(idle,))) == [MakeResident("a/m@1")]


def test_external_models_need_no_step() -> None:
    assert steps(desired("a/m@1", source=ModelSource.EXTERNAL), Held()) == []


def test_a_hot_adapter_is_pulled_and_loaded_beside_its_base() -> None:
    wanted, beside = desired("a/m@1"), adapters("a/fr@1")
    base = (engine("a/m@1"),)
    assert steps(wanted, have("a/m@1", engines=base), beside) == [Pull(beside["a/fr@1"])]
    held = have("a/m@1", "a/fr@1", engines=base, free_slots={"a/m@1": 2})
    assert steps(wanted, held, beside) == [MakeResident("a/m@1", "a/fr@1")]
    assert steps(wanted, replace(held, active=frozenset({"a/fr@1"})), beside) == []


def test_hot_adapters_do_not_push_each_other_out() -> None:
    beside = adapters("a/de@1", "a/fr@1", "a/pt@1")
    held = have("a/m@1", *beside, engines=(engine("a/m@1"),), free_slots={"a/m@1": 2})
    assert steps(desired("a/m@1"), held, beside) == [
        MakeResident("a/m@1", "a/de@1"),
        MakeResident("a/m@1", "a/fr@1"),
    ]
    full = replace(held, free_slots={"a/m@1": 0})
    assert steps(desired("a/m@1"), full, beside) == []


def test_an_adapter_waits_for_its_base() -> None:
    beside = adapters("a/fr@1")
    starting = engine("a/m@1", settled=False)
    held = have("a/m@1", "a/fr@1", engines=(starting,), free_slots={"a/m@1": 2})
    assert steps(desired("a/m@1"), held, beside) == []


def test_an_adapter_of_a_base_that_is_not_here_is_neither_pulled_nor_loadable() -> None:
    beside = adapters("a/fr@1")
    assert steps({}, Held(), beside) == []
    assert loadable_names({}, beside) == []
    assert loadable_names(desired("a/m@1"), beside) == [("a/m@1", ""), ("a/m@1", "a/fr@1")]


@given(
    st.sets(st.sampled_from(["a/1@1", "b/1@1", "c/1@1"])),
    st.sets(st.sampled_from(["a/1@1", "b/1@1", "c/1@1"])),
    st.lists(st.sampled_from(["a/1@1", "b/1@1", "c/1@1"]), max_size=2, unique=True),
    st.sampled_from(list(Hold)),
)
def test_steps_are_deterministic_and_no_wanted_engine_is_stopped(wanted, whole, there, hold):
    models = desired(*wanted, hold=hold)
    engines = tuple(engine(model, index) for index, model in enumerate(there))
    held = have(*whole, engines=engines)
    first = steps(models, held, most=2)
    assert first == steps(models, held, most=2)
    for step in first:
        if isinstance(step, StopEngine):
            assert engines[step.index].model not in wanted
        if isinstance(step, MakeResident):
            assert step.model in whole
            assert step.model not in there
