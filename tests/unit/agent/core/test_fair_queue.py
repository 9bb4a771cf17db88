"""Which account's waiting request comes next."""

from __future__ import annotations

from agent.core.engine_place import WEIGHTS, Place, Work
from agent.core.fair_queue import MAX_LINES, FairQueue
from protos.domain.resources import SlaTier

REALTIME, INTERACTIVE, STANDARD = SlaTier


class Line:
    """A queue at an engine of one place: requests come, and are served one after the other."""

    def __init__(self) -> None:
        self.queue = FairQueue()

    def add(self, account: str, tier: SlaTier = STANDARD, tokens: float = 1.0) -> Place:
        place = Place(Work(account, tier), 0.0)
        place.charged_tokens = tokens
        self.queue.add(self.queue.arrived(account, WEIGHTS[tier]), place)
        return place

    def next(self) -> Place:
        line = self.queue.least_served()
        assert line is not None
        place = line.first()
        self.queue.remove(line, place)
        self.queue.serve(line, place, in_turn=True)
        self.queue.waits_on(line, place)
        line.in_use -= 1
        self.queue.rest(line)
        return place

    def order(self, count: int) -> str:
        return "".join(self.next().work.account for _ in range(count))


def test_an_account_with_less_work_for_its_weight_is_next() -> None:
    line = Line()
    for _ in range(20):
        line.add("a", REALTIME)
        line.add("b", STANDARD)
    served = line.order(10)
    assert (served.count("a"), served.count("b")) == (8, 2)


def test_an_account_that_was_away_has_saved_nothing() -> None:
    line = Line()
    for _ in range(20):
        line.add("a", tokens=10.0)
    line.order(10)
    for _ in range(10):
        line.add("b", tokens=10.0)
    assert sorted(line.order(4)) == ["a", "a", "b", "b"]


def test_of_one_account_the_higher_level_comes_first_and_shuts_out_no_other() -> None:
    line = Line()
    for _ in range(20):
        line.add("a", STANDARD)
    for _ in range(20):
        line.add("a", REALTIME)
    levels = [line.next().work.sla_tier for _ in range(10)]
    assert levels.count(REALTIME) == 8
    assert levels.count(STANDARD) == 2


def test_the_newest_of_the_lowest_level_is_the_one_to_refuse() -> None:
    line = Line()
    line.add("a", STANDARD)
    newest = line.add("a", STANDARD)
    line.add("a", REALTIME)
    assert line.queue.most_crowded().newest() is newest


def test_the_account_with_the_most_waiting_for_its_weight_is_the_most_crowded() -> None:
    line = Line()
    for _ in range(3):
        line.add("a", REALTIME)
    for _ in range(2):
        line.add("b", STANDARD)
    assert line.queue.most_crowded().account == "b"


def test_an_account_served_from_the_reserve_is_charged_and_comes_later() -> None:
    line = Line()
    line.add("a", tokens=1.0)
    for _ in range(2):
        line.add("b", tokens=10.0)
    of_b = line.queue.find("b")
    assert of_b is not None
    first = of_b.first()
    line.queue.remove(of_b, first)
    line.queue.serve(of_b, first, in_turn=False)
    line.queue.waits_on(of_b, first)
    assert [one.account for one in line.queue.longest_unserved()] == ["a", "b"]
    assert line.next().work.account == "a"


def test_when_nobody_competes_every_account_begins_anew() -> None:
    line = Line()
    line.add("a", tokens=1_000.0)
    line.next()
    assert line.queue.accounts == 0
    assert (line.queue.requests, line.queue.sequences, line.queue.active_weight) == (0, 0, 0.0)


def test_an_account_in_line_is_served_after_idle_ones_were_forgotten() -> None:
    line = Line()
    kept = line.add("waits", tokens=1.0)
    for number in range(MAX_LINES + 10):
        of = line.queue.arrived(f"idle{number}", 1.0)
        of.tag = 1_000.0
        line.queue.rest(of)
    assert line.queue.accounts <= MAX_LINES
    assert line.next() is kept
