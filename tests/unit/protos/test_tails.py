"""Which kind of tail a regime has, and that its P99 is not above what that kind asks for."""

from __future__ import annotations

import random

from protos.domain.tails import START_QUANTILE, Tails

CENTRE, SCALE = (10.0, 50.0, 0.0, 0.0, 0.0), (1.0, 5.0, 0.0, 0.0, 0.0)


def taught(late_ms, count=1_500, *, waits=False, seed=1):
    """Errors of a tenth, and one in thirty that is late by what ``late_ms`` says of its tokens."""
    tails, chance = Tails((1.0, 1.0, 1.0, 0.0, 0.0), waits=waits), random.Random(seed)
    for index in range(count):
        tokens = chance.lognormvariate(0.0, 1.0)
        centre_ms, scale_ms = 10.0 + 50.0 * tokens, 1.0 + 5.0 * tokens
        error_ms = chance.gauss(0.0, scale_ms)
        if chance.random() < 1 / 30:
            error_ms = late_ms(tokens, chance)
        promised = tails.above(CENTRE, SCALE)
        features = (1.0, tokens, 0.0, 0.0, 0.0)
        tails.learn(features, error_ms, promised, centre_ms, scale_ms, float(index), remember=True)
    return tails


def other_prompts(_tokens, chance):
    return chance.uniform(0.0, 600.0)


def not_cached(tokens, chance):
    return 50.0 * tokens * chance.uniform(0.0, 3.0)


def test_it_begins_with_what_is_believed():
    lines = Tails((1.0, 1.0, 1.0, 0.0, 0.0), waits=False).above(CENTRE, SCALE)
    assert (
        lines.p99
        == lines.p99_growing
        == (10.0 + START_QUANTILE, 50.0 + 5 * START_QUANTILE, 0, 0, 0)
    )


def test_a_prompt_of_others_ahead_is_late_by_as_much_whatever_the_own_prompt():
    tails = taught(other_prompts)
    assert tails.flat_wins
    lines = tails.above(CENTRE, SCALE)
    assert lines.p99[1:] == CENTRE[1:]
    assert 300.0 < lines.p99[0] < 800.0


def test_what_was_not_cached_is_late_in_proportion():
    tails = taught(not_cached)
    assert not tails.flat_wins
    lines = tails.above(CENTRE, SCALE)
    assert lines.p99[1] > 2 * CENTRE[1]


def test_errors_of_waits_always_grow_with_them():
    assert not taught(other_prompts, waits=True).flat_wins


def test_a_p95_is_never_above_its_p99():
    for late_ms in (other_prompts, not_cached):
        for count in (0, 1, 20, 400):
            lines = taught(late_ms, count).above(CENTRE, SCALE)
            assert all(
                c <= low <= high for c, low, high in zip(CENTRE, lines.p95, lines.p99, strict=True)
            )


def test_misses_of_unknown_size_raise_it_and_a_change_takes_them_back():
    tails = taught(not_cached, 100)
    before = tails.above(CENTRE, SCALE).p99[1]
    for _ in range(5):
        tails.miss(1e6)
    assert tails.above(CENTRE, SCALE).p99[1] > before
    tails.forget_since(1e6)
    assert tails.above(CENTRE, SCALE).p99[1] <= before * 1.5
