"""Who is given an engine's places: fair between accounts, and bounded."""

from __future__ import annotations

import pytest

from agent.core.engine_admission import EngineAdmission, Entered, Left, Refuse, Serve
from agent.core.engine_place import Place, Work
from agent.core.fair_queue import MAX_LINES
from protos.domain.resources import SlaTier

REALTIME, INTERACTIVE, STANDARD = SlaTier


class Engine:
    """An engine's admission, with its requests by name."""

    def __init__(self, places: int, **limits: int) -> None:
        self.admission = EngineAdmission(places, **limits)
        self.now = 0.0
        self.names: dict[Place, str] = {}
        self.places: dict[str, Place] = {}

    def enter(
        self, name: str, account: str = "", tier: SlaTier = STANDARD, sequences: int = 1, **of: int
    ) -> list[str]:
        work = Work(account or name.rstrip("0123456789"), tier, sequences, max_tokens=100.0)
        work.body_bytes = of.get("body_bytes", 0)
        work.prompt_tokens = of.get("prompt_tokens", 0)
        place = self.places[name] = Place(work, self.now)
        self.names[place] = name
        return self._words(Entered(place))

    def leave(self, name: str, tokens: float | None = None) -> list[str]:
        return self._words(Left(self.places[name], tokens))

    def fill(self, account: str, count: int, start: int = 1) -> None:
        for number in range(start, start + count):
            self.enter(f"{account}{number}")

    def run(
        self, running: list[str], steps: int, tokens: dict[str, float] | None = None
    ) -> list[str]:
        """Let requests end in the order in which they were served; return those served then."""
        served = []
        for _ in range(steps):
            name = running.pop(0)
            for word in self.leave(name, None if tokens is None else tokens[name[0]]):
                running.append(word.removeprefix("serve "))
                served.append(running[-1])
        return served

    def _words(self, event: Entered | Left) -> list[str]:
        words = {Serve: "serve", Refuse: "refuse"}
        commands = self.admission.handle(event, self.now)
        return [f"{words[type(one)]} {self.names[one.place]}" for one in commands]


# --- one account


def test_one_account_alone_gets_every_place_and_no_more() -> None:
    engine = Engine(4)
    assert [engine.enter(f"a{number}") for number in range(6)] == [
        ["serve a0"],
        ["serve a1"],
        ["serve a2"],
        ["serve a3"],
        [],
        [],
    ]
    assert (engine.admission.serving, engine.admission.waiting) == (4, 2)


def test_a_place_that_frees_goes_to_the_request_that_waited_longest() -> None:
    engine = Engine(1)
    engine.fill("a", 3)
    assert engine.leave("a1") == ["serve a2"]
    assert engine.leave("a2") == ["serve a3"]
    assert engine.leave("a3") == []


def test_a_waiter_whose_client_is_gone_never_gets_a_place() -> None:
    engine = Engine(1)
    engine.fill("a", 3)
    assert engine.leave("a2") == []
    assert engine.admission.waiting == 1
    assert engine.leave("a1") == ["serve a3"]
    assert engine.leave("a2") == [], "leaving twice changes nothing"
    assert engine.admission.serving == 1


# --- several accounts


def test_1500_streams_of_one_account_leave_another_its_share_at_once() -> None:
    engine = Engine(8)
    engine.fill("a", 1_500)
    served = [engine.enter(f"b{number}") == [f"serve b{number}"] for number in range(1, 6)]
    assert served == [True, True, True, True, False], "half of eight places, from the reserve"
    assert engine.admission.serving == 12


def test_freed_places_go_to_the_account_that_had_less_work() -> None:
    engine = Engine(2)
    for account in "abc":  # c1 waits: the reserve is used up
        engine.fill(account, 6)
    served = engine.run(["a1", "a2", "b1"], 15)
    assert served[0] == "c1", "the account that had nothing yet"
    counts = [sum(name[0] == account for name in served) for account in "abc"]
    assert max(counts) - min(counts) <= 2


def test_a_place_that_is_nobodys_share_goes_to_the_account_that_used_fewer_tokens() -> None:
    """Of five places each of two accounts has two; the fifth follows the tokens."""
    engine = Engine(5)
    for number in range(1, 100):
        engine.enter(f"a{number}", prompt_tokens=10_000)
        engine.enter(f"b{number}")
    running = [f"{account}{number}" for number in (1, 2, 3) for account in "ab"][:5]
    served = engine.run(running, 50)[10:]
    assert sum(name[0] == "b" for name in served) > sum(name[0] == "a" for name in served)


def test_work_is_settled_by_what_was_generated() -> None:
    """An account whose answers are longer than expected gets fewer of them."""
    engine = Engine(5)
    for number in range(1, 100):
        engine.enter(f"a{number}")
        engine.enter(f"b{number}")
    running = [f"{account}{number}" for number in (1, 2, 3) for account in "ab"][:5]
    served = engine.run(running, 50, {"a": 900.0, "b": 100.0})[10:]
    assert sum(name[0] == "b" for name in served) > sum(name[0] == "a" for name in served)


@pytest.mark.parametrize(("tier", "share"), [(REALTIME, 6), (INTERACTIVE, 5), (STANDARD, 4)])
def test_a_share_is_weighted_by_service_level(tier: SlaTier, share: int) -> None:
    engine = Engine(8)
    engine.fill("a", 100)
    served = sum(bool(engine.enter(f"b{number}", tier=tier)) for number in range(20))
    assert served == min(share, 4), "the reserve is half of the places"
    for number in range(1, 9):
        engine.leave(f"a{number}")
    running = [f"b{number}" for number in range(20)]
    of_b = sum(engine.places[name].served_mono_ms is not None for name in running)
    assert of_b >= share


def test_an_accounts_own_batch_does_not_hold_up_its_realtime_requests() -> None:
    engine = Engine(1)
    engine.fill("a", 100)
    engine.enter("now", account="a", tier=REALTIME)
    assert "now" in engine.run(["a1"], 2)


# --- heavy requests


def test_a_request_counts_as_its_sequences() -> None:
    engine = Engine(8)
    assert engine.enter("a1", sequences=8) == ["serve a1"]
    assert engine.enter("a2") == []
    assert engine.admission.serving == 8
    assert engine.leave("a1") == ["serve a2"]


def test_a_request_wider_than_the_engine_gets_its_turn_and_pays_for_it() -> None:
    engine = Engine(4)
    engine.fill("a", 5)
    assert engine.enter("wide", sequences=64) == [], "it is not given the reserve"
    assert engine.leave("a1") == ["serve wide"]
    ended = [engine.leave(f"a{number}") for number in range(2, 5)]
    assert ended == [[], ["serve a5"], []], "from the reserve: its share is two"


def test_a_request_wider_than_the_engine_does_not_shut_others_out() -> None:
    engine = Engine(8)
    engine.enter("wide", sequences=128)
    assert engine.enter("b1") == ["serve b1"]
    assert engine.enter("wide2", sequences=128) == []
    engine.fill("b", 5, start=2)
    assert engine.admission.serving == 128 + 4
    engine.leave("b1")
    assert engine.admission.serving == 128 + 4, "b keeps its share"


# --- limits


def test_over_the_limit_the_account_with_the_most_waiting_is_refused_not_the_newcomer() -> None:
    engine = Engine(1, max_waiting=3)
    engine.fill("a", 4)
    engine.fill("c", 1)  # the reserve
    assert engine.enter("b1") == ["refuse a4"]
    retry_after_s = engine.places["a4"].retry_after_s
    assert retry_after_s is not None
    assert retry_after_s >= 1.0
    assert engine.leave("a4") == [], "its owner gives it back all the same"
    assert engine.enter("a5") == ["refuse a5"]


def test_over_the_byte_limit_requests_are_refused_too() -> None:
    engine = Engine(1, max_waiting_bytes=1_000)
    engine.fill("a", 1)
    assert engine.enter("a2", body_bytes=900) == []
    assert engine.enter("a3", body_bytes=200) == ["refuse a3"]
    engine.leave("a2")
    assert engine.enter("a4", body_bytes=900) == []


def test_the_time_to_retry_follows_from_what_the_account_has_waiting() -> None:
    engine = Engine(2, max_waiting=100)
    engine.fill("a", 2)
    for number in range(3, 60):  # each place is held for a minute
        engine.now += 30_000.0
        engine.enter(f"a{number}")
        engine.leave(f"a{number - 2}")
    assert engine.admission.waiting == 0
    engine.fill("a", 101, start=60)
    retry_after_s = engine.places["a160"].retry_after_s
    assert retry_after_s is not None
    assert 600.0 < retry_after_s < 3_600.0


def test_accounts_without_requests_are_forgotten() -> None:
    engine = Engine(2)
    engine.enter("busy1")
    for number in range(2 * MAX_LINES):
        engine.enter("x", account=f"account-{number}")
        engine.leave("x", tokens=1_000.0)
    assert engine.admission.accounts <= MAX_LINES
    engine.leave("busy1")
    assert engine.admission.accounts == 0


# --- what a request would meet


def test_an_idle_engine_is_seen_as_it_is() -> None:
    engine = Engine(4)
    engine.fill("a", 2)
    assert engine.admission.load_for("b", STANDARD) == (2, 0)


def test_another_accounts_1500_waiting_streams_are_not_ahead_of_a_newcomer() -> None:
    engine = Engine(8)
    engine.fill("a", 1_500)
    assert engine.admission.load_for("a", STANDARD) == (8, 1_492)
    assert engine.admission.load_for("b", STANDARD) == (7, 0), "one place of the reserve is free"
    engine.fill("b", 4)
    assert engine.admission.load_for("b", STANDARD) == (12, 0)
    engine.fill("b", 1, start=5)
    assert engine.admission.load_for("b", STANDARD) == (12, 2), "each of its own counts twice"


def test_what_was_told_is_what_happens() -> None:
    engine = Engine(2)
    engine.fill("a", 10)
    for number in range(8):
        account = f"b{number}"
        serving, ahead = engine.admission.load_for(account, STANDARD)
        at_once = bool(engine.enter(f"{account}-1", account=account))
        assert at_once is (serving < 2 and not ahead)
