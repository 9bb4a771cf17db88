"""Two copies of one request that are both silent: a third target is asked while one is free."""

from __future__ import annotations

from tests.support.request_world import MINUTE_MS, QUIET, RequestWorld, fleet


def hedging(**took_ms: float) -> RequestWorld:
    world = RequestWorld(fleet(took_ms), hedge_ratio=1.0, budget_ms=10_000.0, policy=QUIET)
    for name, ms in took_ms.items():
        world.learned(name, ms)
    return world


def test_with_two_silent_copies_a_third_target_is_asked():
    world = hedging(near=50.0, mid=60.0, far=70.0)
    world.begin()
    assert world.wait(MINUTE_MS) == ["ask mid (second_copy)", "cancel near", "ask far"]
    assert world.token("far") == ["cancel mid", "head far"]
    assert [each.outcome for each in world.log.attempts] == ["late", "overtaken"]


def test_the_first_copy_is_kept_while_the_second_is_in_time():
    world = hedging(near=50.0, mid=2_000.0, far=2_500.0)
    world.begin()
    assert world.wait(4_000.0) == ["ask mid (second_copy)"]
    assert world.token("near") == ["cancel mid", "head near"]


def test_two_silent_copies_of_the_last_targets_are_both_waited_for():
    world = hedging(near=50.0, mid=60.0)
    world.begin()
    assert world.wait(60 * MINUTE_MS) == ["ask mid (second_copy)"]
    assert world.token("mid") == ["cancel near", "head mid"]


def test_no_more_targets_are_asked_one_after_the_other_than_the_limit():
    world = hedging(n1=50.0, n2=55.0, n3=60.0, n4=65.0, n5=70.0, n6=75.0)
    world.begin()
    done = world.wait(60 * MINUTE_MS)
    assert sum(word.startswith("ask") and "copy" not in word for word in done) == 2, "and the first"
    assert sum(word.startswith("cancel") for word in done) == 2
