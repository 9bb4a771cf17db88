"""A load that keeps failing is tried less and less often."""

from __future__ import annotations

from agent.core.cold_start import Wanted
from agent.core.load_rests import FIRST_REST_MS, LONGEST_REST_MS, LoadRests

MODEL, ADAPTER = Wanted("acme/base@1"), Wanted("acme/base@1", "acme/fr@1")


def test_the_first_failure_is_tried_again_at_once():
    rests = LoadRests()
    rests.failed(MODEL, "it died", 100.0)
    assert rests.rest(MODEL, 100.0) is None


def test_each_further_failure_rests_twice_as_long_up_to_a_limit():
    rests, waited = LoadRests(), []
    for _ in range(12):
        rests.failed(MODEL, "does not fit", 100.0)
        rest = rests.rest(MODEL, 100.0)
        waited.append(0.0 if rest is None else rest[0])
    assert waited[:4] == [0.0, FIRST_REST_MS, 2 * FIRST_REST_MS, 4 * FIRST_REST_MS]
    assert waited[-1] == LONGEST_REST_MS
    for _ in range(2_000):
        rests.failed(MODEL, "does not fit", 100.0)
    assert rests.rest(MODEL, 100.0) == (LONGEST_REST_MS, "does not fit")


def test_a_rest_ends_and_one_good_load_ends_all_of_it():
    rests = LoadRests()
    for _ in range(2):
        rests.failed(MODEL, "why", 0.0)
    assert rests.rest(MODEL, FIRST_REST_MS - 1) == (1.0, "why")
    assert rests.rest(MODEL, FIRST_REST_MS) is None
    rests.went_well(MODEL)
    rests.failed(MODEL, "why", 0.0)
    assert rests.rest(MODEL, 0.0) is None


def test_an_adapter_rests_apart_from_its_base_and_is_forgotten_with_its_order():
    rests = LoadRests()
    for _ in range(2):
        rests.failed(ADAPTER, "why", 0.0)
    assert rests.rest(MODEL, 0.0) is None
    assert rests.rest(ADAPTER, 0.0) is not None
    rests.forget_all_but({"acme/base@1"})
    assert len(rests) == 0
