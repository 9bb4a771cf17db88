"""The prediction, one term at a time."""

from __future__ import annotations

import pytest

from protos.domain.ttft import (
    MAX_QUEUE_MS,
    TERMS,
    network_to,
    predict,
    queue_time_ms,
    transfer_time_ms,
)
from tests.support.fleets import profile


def predicted(engine=None, **changes):
    facts = {
        "rtt_ms_p50": 0.0,
        "rtt_ms_p99": 0.0,
        "warm": True,
        "in_flight": 0,
        "queued": 0,
        "prompt_tokens": 0,
        "body_bytes": 0,
        "backlog_tokens": 0.0,
        "progress_ms": 0.0,
    }
    facts |= changes
    rtt_ms_p50, warm, body_bytes = (
        facts.pop(each) for each in ("rtt_ms_p50", "warm", "body_bytes")
    )
    network = network_to(rtt_ms_p50, warm=warm, body_bytes=body_bytes)
    return predict(engine or profile(), network, **facts)


def term(prediction, name):
    return dict(prediction.terms())[name]


def test_idle_engine_next_door_takes_what_its_profile_says():
    idle = predicted(profile(40.0))
    assert idle.ttft_ms_p99 == pytest.approx(40.0)
    assert idle.ttft_ms_p50 < idle.ttft_ms_p99
    assert idle.terms()[-1] == ("engine", pytest.approx(40.0))


def test_terms_are_named_and_sum_to_the_p99():
    busy = predicted(
        profile(40.0, prefill_ms_per_token=0.5),
        rtt_ms_p50=20.0,
        rtt_ms_p99=35.0,
        warm=False,
        in_flight=5,
        queued=3,
        prompt_tokens=200,
        backlog_tokens=300.0,
        body_bytes=100_000,
    )
    assert tuple(each.name for each in busy.terms()) == TERMS
    assert all(each.value_ms > 0.0 for each in busy.terms())
    assert sum(each.value_ms for each in busy.terms()) == pytest.approx(busy.ttft_ms_p99)


def test_a_sum_of_p99s_is_not_a_p99():
    both = predicted(profile(40.0), rtt_ms_p50=20.0, rtt_ms_p99=35.0)
    assert 20.0 + 40.0 < both.ttft_ms_p99 < 35.0 + 40.0


def test_prefill_grows_with_the_prompt():
    engine = profile(40.0, prefill_ms_per_token=0.25)
    assert term(predicted(engine, prompt_tokens=400), "prefill") == pytest.approx(100.0)


def test_prompts_ahead_take_their_time_less_what_of_it_has_passed():
    engine = profile(40.0, prefill_ms_per_token=0.25, max_parallel=4)
    behind = {"in_flight": 1, "backlog_tokens": 400.0}
    assert term(predicted(engine, **behind), "backlog") == pytest.approx(100.0)
    assert term(predicted(engine, **behind, progress_ms=30.0), "backlog") == pytest.approx(70.0)
    assert term(predicted(engine, **behind, progress_ms=1e9), "backlog") == 0.0
    in_line = behind | {"in_flight": 4, "progress_ms": 30.0}
    assert term(predicted(engine, **in_line), "backlog") == pytest.approx(100.0)


def test_handshake_is_paid_only_without_a_warm_connection():
    cold = predicted(rtt_ms_p50=50.0, rtt_ms_p99=50.0, warm=False)
    warm = predicted(rtt_ms_p50=50.0, rtt_ms_p99=50.0, warm=True)
    assert cold.ttft_ms_p99 - warm.ttft_ms_p99 == pytest.approx(100.0)
    assert term(cold, "handshake") == pytest.approx(100.0)
    assert term(predicted(warm=False), "handshake") == 0.0, "our own engine has no handshake"


def test_queue_forms_only_when_every_place_is_taken():
    engine = profile(max_parallel=4, tokens_per_s=422.0)
    assert term(predicted(engine, in_flight=3), "queue") == 0.0
    assert term(predicted(engine, in_flight=4), "queue") == pytest.approx(500.0)
    assert term(predicted(engine, in_flight=4, queued=1), "queue") == pytest.approx(1_000.0)


def test_a_queue_at_an_engine_next_to_standing_still_is_told_as_an_hour():
    assert queue_time_ms(profile(40.0, tokens_per_s=5e-324), 3) == MAX_QUEUE_MS


def test_queue_of_an_uncalibrated_engine_counts_first_tokens():
    assert queue_time_ms(profile(40.0, tokens_per_s=0.0), 3) == pytest.approx(120.0)


@pytest.mark.parametrize(
    ("body_bytes", "rounds"),
    [(0, 0), (14_480, 0), (14_481, 1), (43_440, 1), (43_441, 2), (101_360, 2), (101_361, 3)],
)
def test_large_bodies_take_more_round_trips(body_bytes, rounds):
    expected_ms = rounds * 100.0 + body_bytes / 125_000.0
    assert transfer_time_ms(body_bytes, 100.0) == pytest.approx(expected_ms)


def test_a_body_for_our_own_engine_does_not_travel():
    assert term(predicted(body_bytes=8_000_000), "transfer") == 0.0


def test_an_instant_engine_predicts_nothing_but_the_network():
    instant = predicted(profile(0.0), rtt_ms_p50=20.0, rtt_ms_p99=30.0)
    assert instant.ttft_ms_p99 == pytest.approx(30.0)
    assert predicted(profile(0.0)).ttft_ms_p99 == 0.0


def test_a_p99_below_the_median_counts_as_steady():
    odd = predicted(profile(40.0), rtt_ms_p50=20.0, rtt_ms_p99=10.0)
    assert odd.ttft_ms_p99 == pytest.approx(60.0)
