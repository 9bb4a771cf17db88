"""Which piece is asked of which source."""

from __future__ import annotations

from agent.core.chunk_planner import Abandon, ChunkPlanner, Fetch, PullPolicy, Rank
from agent.core.pull_budget import PullBudget

POLICY = PullPolicy(max_in_flight=2)


def planner(pieces: int = 4, *, first: int = 0, most: int = 8, bytes_per_s: int = 0):
    budget = PullBudget(bytes_per_s, 0.0, max_pieces=most)
    whole = (1 << pieces) - 1
    return ChunkPlanner([10] * pieces, whole, POLICY, budget, first, 0.0)


def fetches(commands: list[object]) -> list[tuple[str, int]]:
    return [(one.source, one.piece) for one in commands if isinstance(one, Fetch)]


def test_the_nearest_source_is_asked_first_and_the_others_for_the_rest() -> None:
    pull = planner()
    pull.source_found("origin", Rank.ORIGIN, 0b1111)
    pull.source_found("far", Rank.ZONE, 0b1111)
    pull.source_found("near", Rank.POP, 0b1111)
    asked = fetches(pull.next_commands(0.0, 0.5))
    assert asked == [("near", 0), ("near", 1), ("far", 2), ("far", 3)]


def test_the_origin_is_asked_only_for_what_no_other_source_has() -> None:
    pull = planner()
    pull.source_found("origin", Rank.ORIGIN, 0b1111)
    pull.source_found("near", Rank.POP, 0b0111)
    assert fetches(pull.next_commands(0.0, 0.5)) == [("near", 0), ("near", 1), ("origin", 3)]


def test_without_a_piece_for_a_while_the_origin_is_asked_for_anything() -> None:
    pull = planner()
    pull.source_found("origin", Rank.ORIGIN, 0b1111)
    pull.own_share = 0b1000
    assert fetches(pull.next_commands(0.0, 0.5)) == [("origin", 3)]
    assert pull.next_deadline_ms(0.0) == POLICY.patience_ms
    assert fetches(pull.next_commands(POLICY.patience_ms, 0.5)) == [("origin", 0)]


def test_a_pull_begins_at_its_own_piece_and_goes_around_the_end() -> None:
    pull = planner(first=3)
    pull.source_found("near", Rank.POP, 0b1111)
    assert fetches(pull.next_commands(0.0, 0.5)) == [("near", 3), ("near", 0)]


def test_the_rarest_piece_of_a_source_comes_first() -> None:
    pull = planner()
    pull.source_found("a", Rank.POP, 0b1111)
    pull.source_found("b", Rank.POP, 0b0011)
    assert fetches(pull.next_commands(0.0, 0.5))[0] == ("a", 2)


def test_a_source_that_sent_wrong_bytes_is_struck_off_for_a_time() -> None:
    pull = planner(1)
    pull.source_found("bad", Rank.POP, 1)
    pull.source_found("origin", Rank.ORIGIN, 1)
    assert fetches(pull.next_commands(0.0, 0.5)) == [("bad", 0)]
    pull.was_wrong(0, 1.0)
    assert fetches(pull.next_commands(1.0, 0.5)) == [("origin", 0)]
    pull.failed(0, 2.0, 1.0)
    pull.source_found("bad", Rank.POP, 1)
    assert fetches(pull.next_commands(300.0, 0.5)) == [("origin", 0)]
    assert not pull.hopeless()


def test_a_pull_whose_only_source_sent_wrong_bytes_is_hopeless() -> None:
    pull = planner(1)
    pull.source_found("origin", Rank.ORIGIN, 1)
    pull.next_commands(0.0, 0.5)
    assert not pull.hopeless()
    pull.was_wrong(0, 1.0)
    assert pull.hopeless()


def test_a_late_piece_is_abandoned_before_another_source_is_asked() -> None:
    pull = planner(1)
    pull.source_found("slow", Rank.POP, 1)
    pull.source_found("origin", Rank.ORIGIN, 1)
    pull.next_commands(0.0, 0.5)
    assert pull.next_commands(POLICY.late_ms - 1, 0.5) == []
    commands = pull.next_commands(POLICY.late_ms, 0.5)
    assert commands == [Abandon("slow", 0), Fetch("origin", 0)]


def test_a_late_piece_that_nobody_else_has_is_waited_for() -> None:
    pull = planner(1)
    pull.source_found("origin", Rank.ORIGIN, 1)
    pull.next_commands(0.0, 0.5)
    assert pull.next_commands(1e9, 0.5) == []
    pull.arrived(0, 1e9)
    assert pull.done


def test_a_source_that_failed_is_left_alone_then_asked_for_one_piece_at_a_time() -> None:
    pull = planner()
    pull.source_found("a", Rank.POP, 0b1111)
    pull.next_commands(0.0, 0.5)
    pull.failed(0, 0.0, 1.0)
    pull.failed(1, 0.0, 1.0, retry_after_ms=2_000.0)
    assert pull.next_commands(1_999.0, 0.5) == []
    assert len(fetches(pull.next_commands(2_000.0, 0.5))) == 1


def test_what_a_source_promised_and_has_not_is_not_asked_of_it_again() -> None:
    pull = planner(1)
    pull.source_found("liar", Rank.POP, 1)
    pull.source_found("origin", Rank.ORIGIN, 1)
    assert fetches(pull.next_commands(0.0, 0.5)) == [("liar", 0)]
    pull.not_there(0)
    pull.source_found("liar", Rank.POP, 1)
    assert fetches(pull.next_commands(0.0, 0.5)) == [("origin", 0)]


def test_what_a_lost_source_was_asked_for_is_abandoned() -> None:
    pull = planner(1)
    pull.source_found("gone", Rank.POP, 1)
    pull.next_commands(0.0, 0.5)
    assert pull.source_lost("gone") == [Abandon("gone", 0)]
    assert pull.source_lost("gone") == []
    assert pull.asked == []
    assert pull.budget.in_flight == 0


def test_memory_and_bandwidth_are_kept() -> None:
    pull = planner(8, most=3)
    pull.source_found("a", Rank.POP, 0xFF)
    pull.source_found("b", Rank.POP, 0xFF)
    assert len(fetches(pull.next_commands(0.0, 0.5))) == 3
    slow = planner(8, bytes_per_s=1)
    slow.source_found("a", Rank.POP, 0xFF)
    before = len(fetches(slow.next_commands(0.0, 0.5)))
    assert before == 2
    assert slow.next_deadline_ms(0.0) <= POLICY.patience_ms


def test_a_piece_that_could_not_be_written_is_nobodys_fault() -> None:
    pull = planner(1)
    pull.source_found("a", Rank.POP, 1)
    pull.next_commands(0.0, 0.5)
    pull.put_back(0)
    assert pull.sources["a"].failures == 0
    assert fetches(pull.next_commands(0.0, 0.5)) == [("a", 0)]
