"""What leaves a disk so that another object fits."""

from __future__ import annotations

from agent.core.eviction import StoredObject, plan_eviction, used_bytes

A, B, C = (bytes([n]) * 32 for n in range(3))


def stored(key: str, files: dict[bytes, int], used: float, *, pinned: bool = False):
    return StoredObject(key, files, used, pinned)


def test_nothing_leaves_while_there_is_room() -> None:
    plan = plan_eviction([stored("old", {A: 5}, 0.0)], {B: 5}, 10)
    assert (plan.keys, plan.short_bytes) == ((), 0)


def test_the_least_recently_used_leaves_first_and_no_more_than_must() -> None:
    there = [stored("new", {A: 5}, 2.0), stored("old", {B: 5}, 1.0)]
    assert plan_eviction(there, {C: 5}, 10).keys == ("old",)


def test_what_is_pinned_stays_and_the_shortage_has_a_number() -> None:
    there = [stored("hot", {A: 5}, 0.0, pinned=True), stored("cold", {B: 2}, 1.0)]
    plan = plan_eviction(there, {C: 8}, 10)
    assert plan.keys == ()
    assert plan.short_bytes == 3


def test_a_file_that_another_object_keeps_frees_nothing() -> None:
    there = [
        stored("base", {A: 5, B: 1}, 0.0),
        stored("tuned", {A: 5}, 5.0, pinned=True),
        stored("other", {bytes(31) + b"x": 5}, 1.0),
    ]
    plan = plan_eviction(there, {C: 5}, 11)
    assert plan.keys == ("base", "other")
    assert plan.short_bytes == 0


def test_a_file_of_the_new_object_counts_once_and_is_not_freed() -> None:
    there = [stored("base", {A: 5}, 0.0)]
    assert plan_eviction(there, {A: 5, B: 5}, 10).keys == ()
    assert plan_eviction(there, {A: 5, B: 6}, 10).short_bytes == 1


def test_objects_that_share_all_their_files_leave_together() -> None:
    there = [stored("one", {A: 5}, 0.0), stored("two", {A: 5}, 1.0)]
    assert plan_eviction(there, {B: 8}, 10).keys == ("one", "two")


def test_a_shared_file_is_used_once() -> None:
    assert used_bytes([stored("one", {A: 5}, 0.0), stored("two", {A: 5, B: 1}, 0.0)]) == 6
