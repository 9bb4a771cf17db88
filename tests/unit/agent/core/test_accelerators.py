"""The output of a reader's child: valid readings are taken, an invalid answer is refused."""

from __future__ import annotations

import json

import pytest

from agent.core.accelerators import (
    MAX_ACCELERATORS,
    MAX_TEXT_CHARS,
    AcceleratorEvent,
    Reading,
    readings_from_json,
    readings_to_json,
)

READING = Reading(
    id="GPU-1",
    index=1,
    name="H100",
    utilisation_ratio=0.5,
    memory_used_bytes=1,
    memory_total_bytes=2,
    temperature_celsius=55.0,
    power_watts=350.5,
    clock_reasons=("power_cap",),
    ecc_corrected=1,
    ecc_uncorrected=0,
    events=(AcceleratorEvent("xid", 79, "bus"),),
)


def said(**changes: object) -> object:
    answer = json.loads(json.dumps(readings_to_json([READING])))
    answer["accelerators"][0] |= changes
    return answer


def test_readings_survive_the_pipe():
    silent = Reading("GPU-2", 2, "H100", lost=True)
    line = json.dumps(readings_to_json([READING, silent]))
    assert readings_from_json(json.loads(line)) == (READING, silent)


@pytest.mark.parametrize(
    "wrong",
    [
        {"utilisation_ratio": 1.5},
        {"utilisation_ratio": float("nan")},
        {"utilisation_ratio": "0.5"},
        {"memory_used_bytes": -1},
        {"memory_used_bytes": 2**70},
        {"memory_total_bytes": 1.5},
        {"power_watts": float("inf")},
        {"temperature_celsius": True},
        {"lost": "no"},
        {"id": ""},
        {"id": 7},
        {"clock_reasons": None},
        {"clock_reasons": ["x"] * 1_000},
        {"events": [{"kind": "gossip", "code": 1, "detail": ""}]},
        {"events": [{"kind": "xid", "code": None, "detail": ""}]},
        {"events": [{"kind": "xid", "code": 2**40, "detail": ""}]},
        {"events": [{"kind": "xid", "code": 79, "detail": ""}] * 1_000},
    ],
)
def test_a_value_out_of_bounds_refuses_the_whole_answer(wrong):
    with pytest.raises(ValueError, match=r"\w"):
        readings_from_json(said(**wrong))


@pytest.mark.parametrize("answer", [None, [], "x", {}, {"accelerators": [7]}])
def test_an_answer_of_the_wrong_shape_is_refused(answer):
    with pytest.raises(ValueError, match="is no"):
        readings_from_json(answer)


def test_two_accelerators_with_one_id_and_too_many_are_refused():
    one = readings_to_json([READING])["accelerators"]
    assert isinstance(one, list)
    with pytest.raises(ValueError, match="one id"):
        readings_from_json({"accelerators": one * 2})
    with pytest.raises(ValueError, match="at most"):
        readings_from_json({"accelerators": one * (MAX_ACCELERATORS + 1)})


def test_text_cannot_forge_a_line_of_the_log_and_is_cut():
    (reading,) = readings_from_json(said(name="evil\nERROR all is lost" + "x" * 1_000))
    assert "\n" not in reading.name
    assert len(reading.name) == MAX_TEXT_CHARS
