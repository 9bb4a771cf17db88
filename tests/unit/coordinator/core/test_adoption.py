from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.adoption import (
    MAX_RELEASES,
    MAX_RETRY_MS,
    PROMISE_MS,
    RETRY_MS,
    Promise,
    ReleaseState,
    Step,
    Track,
    available,
    failed,
    imported,
    next_step,
    observed,
    promise_of,
    qualified,
    state_of,
    unreachable,
    waiting,
)

NEW = Track("hf://org/repo@main", "acme/up", "", "operator/ana", 0)
SEEN = observed(NEW, "a", 1_000)


def state(track: Track) -> ReleaseState:
    return state_of(track, track.releases[0])


def promise(track: Track, now_unix_ms: int) -> Promise:
    return promise_of(track, track.releases[0], now_unix_ms)


def test_a_release_is_imported_qualified_and_available_in_this_order():
    track = SEEN
    steps = []
    for change in (
        lambda one: imported(one, "acme/up@a", 2_000),
        lambda one: qualified(one, 31.25, 12.5, 3_000),
        lambda one: available(one, 4_000),
    ):
        steps.append((state(track), next_step(track, 5_000)))
        track = change(track)
    assert steps == [
        (ReleaseState.SEEN, Step.IMPORT),
        (ReleaseState.IMPORTED, Step.QUALIFY),
        (ReleaseState.QUALIFIED, Step.CHECK),
    ]
    assert (state(track), next_step(track, 5_000)) == (ReleaseState.AVAILABLE, None)
    release = track.releases[0]
    assert (release.name, release.tokens_per_s, release.first_token_ms) == (
        "acme/up@a",
        31.25,
        12.5,
    )


def test_nothing_is_due_before_upstream_has_answered():
    assert next_step(NEW, 0) is None


@pytest.mark.parametrize(
    ("at", "kept"), [(1_000 + PROMISE_MS, Promise.KEPT), (1_001 + PROMISE_MS, Promise.LATE)]
)
def test_the_promise_is_72_hours_from_the_moment_a_release_was_seen(at, kept):
    assert promise(SEEN, at) is (Promise.OPEN if kept is Promise.KEPT else Promise.MISSED)
    assert promise(available(SEEN, at), 10 * at) is kept


def test_the_same_commit_again_changes_nothing():
    assert observed(SEEN, "a", 9_000) == SEEN


def test_a_newer_release_supersedes_one_that_has_not_arrived():
    track = observed(imported(SEEN, "acme/up@a", 2_000), "b", 5_000)
    assert [one.commit for one in track.releases] == ["b", "a"]
    assert [state_of(track, one) for one in track.releases] == [
        ReleaseState.SEEN,
        ReleaseState.SUPERSEDED,
    ]
    assert promise_of(track, track.releases[1], 10**12) is Promise.SUPERSEDED
    assert next_step(track, 5_000) is Step.IMPORT


def test_a_release_that_was_late_when_the_next_one_came_stays_missed():
    track = observed(SEEN, "b", 2_000 + PROMISE_MS)
    assert promise_of(track, track.releases[1], 10**12) is Promise.MISSED


def test_a_release_that_is_available_stays_so_behind_newer_ones():
    track = observed(available(SEEN, 2_000), "b", 5_000)
    assert state_of(track, track.releases[1]) is ReleaseState.AVAILABLE
    assert promise_of(track, track.releases[1], 10**12) is Promise.KEPT


def test_a_commit_that_is_the_newest_again_is_seen_anew_unless_it_is_available():
    track = observed(observed(SEEN, "b", 5_000), "a", 9_000)
    assert [(one.commit, one.seen_unix_ms) for one in track.releases] == [
        ("a", 9_000),
        ("b", 5_000),
    ]
    track = observed(observed(available(SEEN, 2_000), "b", 5_000), "a", 9_000)
    assert (state(track), track.releases[0].seen_unix_ms) == (ReleaseState.AVAILABLE, 1_000)


def test_a_failed_step_is_tried_again_after_a_growing_wait():
    track, waits = SEEN, []
    for _ in range(12):
        track = failed(track, "no", 10_000)
        waits.append(track.releases[0].retry_unix_ms - 10_000)
        assert next_step(track, 10_000) is None
        assert next_step(track, 10_000 + waits[-1]) is Step.IMPORT
    assert waits[:3] == [RETRY_MS, 2 * RETRY_MS, 4 * RETRY_MS]
    assert waits[-1] == MAX_RETRY_MS
    done = imported(track, "acme/up@a", 20_000).releases[0]
    assert (done.error, done.failures, done.retry_unix_ms) == ("", 0, 0)


def test_a_step_that_waits_for_somebody_is_looked_at_at_each_round():
    track = waiting(imported(SEEN, "acme/up@a", 2_000), "deploy it")
    assert track.releases[0].error == "deploy it"
    assert next_step(track, 2_000) is Step.QUALIFY


def test_what_upstream_does_not_answer_is_kept_until_it_does():
    track = unreachable(SEEN, "x" * 1_000)
    assert len(track.error) == 300
    assert observed(track, "a", 2_000).error == ""


def test_only_so_many_releases_are_remembered():
    track = NEW
    for number in range(MAX_RELEASES + 10):
        track = observed(track, f"{number}", number)
    assert len(track.releases) == MAX_RELEASES
    assert track.releases[0].commit == f"{MAX_RELEASES + 9}"
    assert replace(track, releases=()) == NEW
