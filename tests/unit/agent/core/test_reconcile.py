"""The next steps from the desired models of a node and those it holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.reconcile import Held, Pull, StartEngine, StopEngine, next_steps, wanted_model
from protos.domain.resources import DesiredReplica, ModelSource


def desired(*models: str, source: ModelSource = ModelSource.MANAGED) -> dict[str, DesiredReplica]:
    return {name: DesiredReplica(name, source, (), 2_048) for name in models}


def held(*whole: str, pulling: tuple[str, ...] = (), engine_model: str | None = None) -> Held:
    return Held(frozenset(whole), frozenset(pulling), engine_model)


def test_no_desired_and_no_held_model_needs_no_step() -> None:
    assert next_steps({}, held()) == []


def test_missing_files_are_pulled_once() -> None:
    wanted = desired("a/m@1")
    assert next_steps(wanted, held()) == [Pull(wanted["a/m@1"])]
    assert next_steps(wanted, held(pulling=("a/m@1",))) == []


def test_whole_files_start_an_engine_once() -> None:
    wanted = desired("a/m@1")
    assert next_steps(wanted, held("a/m@1")) == [StartEngine(wanted["a/m@1"])]
    assert next_steps(wanted, held("a/m@1", engine_model="a/m@1")) == []


def test_a_model_no_longer_wanted_is_stopped() -> None:
    assert next_steps({}, held("a/m@1", engine_model="a/m@1")) == [StopEngine("a/m@1")]


def test_another_model_is_pulled_while_the_old_engine_stops_and_starts_when_it_is_gone() -> None:
    wanted = desired("b/m@1")
    running_old = held("a/m@1", engine_model="a/m@1")
    assert next_steps(wanted, running_old) == [StopEngine("a/m@1"), Pull(wanted["b/m@1"])]
    pulled = held("a/m@1", "b/m@1", engine_model="a/m@1")
    assert next_steps(wanted, pulled) == [StopEngine("a/m@1")]
    assert next_steps(wanted, held("b/m@1")) == [StartEngine(wanted["b/m@1"])]


def test_of_several_desired_models_the_choice_does_not_depend_on_their_order() -> None:
    forwards, backwards = desired("a/m@1", "b/m@1"), desired("b/m@1", "a/m@1")
    assert wanted_model(forwards) == wanted_model(backwards) == forwards["a/m@1"]


def test_an_external_model_needs_no_step() -> None:
    assert next_steps(desired("a/m@1", source=ModelSource.EXTERNAL), held()) == []


NAMES = st.sampled_from(["a/m@1", "b/m@1", "c/m@1"])


@given(
    wanted=st.sets(NAMES),
    whole=st.frozensets(NAMES),
    pulling=st.frozensets(NAMES),
    engine_model=st.none() | NAMES,
)
def test_the_steps_end_at_the_desired_state(
    wanted: set[str], whole: frozenset[str], pulling: frozenset[str], engine_model: str | None
) -> None:
    plan = desired(*wanted)
    for _ in range(8):
        steps = next_steps(plan, Held(whole, pulling, engine_model))
        for step in steps:
            match step:
                case Pull(one):
                    assert one.model not in pulling
                    pulling |= {one.model}
                case StopEngine(model):
                    assert model == engine_model
                    engine_model = None
                case StartEngine(one):
                    assert engine_model is None
                    assert one.model in whole
                    engine_model = one.model
        whole, pulling = whole | pulling, frozenset()  # pulls end
    assert engine_model == (min(wanted) if wanted else None)
