from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.failure_detector import (
    ClearFreezeAlarm,
    Command,
    DetectorPolicy,
    FailureDetector,
    FreezeLifted,
    NodeListed,
    NodeUnlisted,
    RaiseFreezeAlarm,
    SetHealth,
    StatusReceived,
    StreamEnded,
    Ticked,
)
from protos.domain.resources import NodeHealth

POLICY = DetectorPolicy()
READY, SUSPECT = NodeHealth.READY, NodeHealth.SUSPECT
UNROUTABLE, DEAD = NodeHealth.UNROUTABLE, NodeHealth.DEAD
TICK_MS = 500.0


class Fleet:
    """A detector with a clock that ticks as the supervisor does."""

    def __init__(
        self, *node_ids: str, health: NodeHealth = READY, policy: DetectorPolicy = POLICY
    ) -> None:
        self.now_ms = 1_000.0
        self.detector = FailureDetector(policy, self.now_ms)
        self.commands: list[Command] = []
        for node_id in node_ids:
            self.detector.handle(NodeListed(node_id, health), self.now_ms)

    def status(self, *node_ids: str, **reachable: bool) -> None:
        peers = {name.replace("_", "-"): answered for name, answered in reachable.items()}
        for node_id in node_ids:
            event = StatusReceived(node_id, peers)
            self.commands += self.detector.handle(event, self.now_ms)

    def hang_up(self, *node_ids: str) -> None:
        for node_id in node_ids:
            self.commands += self.detector.handle(StreamEnded(node_id), self.now_ms)

    def pass_ms(self, duration_ms: float, *, reporting: tuple[str, ...] = ()) -> None:
        """Tick through ``duration_ms`` while some nodes report each tick."""
        end_ms = self.now_ms + duration_ms
        while self.now_ms < end_ms:
            self.now_ms = min(end_ms, self.now_ms + TICK_MS)
            self.status(*reporting)
            self.commands += self.detector.handle(Ticked(), self.now_ms)

    def health(self, node_id: str) -> NodeHealth | None:
        return self.detector.health_of(node_id)


def test_three_missed_reports_make_a_node_suspect():
    fleet = Fleet("a-1")
    fleet.pass_ms(5_999)
    assert fleet.health("a-1") is READY
    fleet.pass_ms(1)
    assert fleet.commands == [SetHealth("a-1", SUSPECT)]


def test_a_node_is_dead_at_the_end_of_its_lease():
    fleet = Fleet("a-1", "b-1")
    fleet.pass_ms(29_999, reporting=("b-1",))
    assert fleet.health("a-1") is SUSPECT
    fleet.pass_ms(1, reporting=("b-1",))
    assert fleet.health("a-1") is DEAD
    assert fleet.health("b-1") is READY


def test_a_late_status_revives():
    fleet = Fleet("a-1")
    fleet.pass_ms(60_000)
    assert fleet.health("a-1") is DEAD
    fleet.status("a-1")
    assert fleet.commands[-1] == SetHealth("a-1", READY)
    fleet.pass_ms(5_500)
    assert fleet.health("a-1") is READY


def test_a_failed_probe_of_a_node_that_reports_changes_nothing():
    fleet = Fleet("a-1", "b-1")
    fleet.status("b-1", a_1=False)
    fleet.pass_ms(2_000, reporting=("a-1",))
    assert fleet.commands == []


def test_a_failed_probe_makes_a_suspect_node_unroutable_at_once():
    fleet = Fleet("a-1", "b-1")
    fleet.pass_ms(6_000, reporting=("b-1",))
    assert fleet.health("a-1") is SUSPECT
    fleet.status("b-1", a_1=False)
    assert fleet.health("a-1") is UNROUTABLE


def test_a_node_whose_stream_ended_is_unroutable_with_the_first_failed_probe_of_a_peer():
    fleet = Fleet("a-1", "b-1")
    fleet.hang_up("a-1")
    fleet.pass_ms(1_000, reporting=("b-1",))
    assert fleet.commands == []
    fleet.status("b-1", a_1=False)
    assert fleet.commands == [SetHealth("a-1", UNROUTABLE)]
    fleet.pass_ms(28_999, reporting=("b-1",))
    assert fleet.health("a-1") is UNROUTABLE
    fleet.pass_ms(1, reporting=("b-1",))
    assert fleet.health("a-1") is DEAD


def test_a_probe_that_failed_before_the_stream_ended_is_ignored():
    fleet = Fleet("a-1", "b-1")
    fleet.status("b-1", a_1=False)
    fleet.pass_ms(500)
    fleet.hang_up("a-1")
    fleet.pass_ms(2_000, reporting=("b-1",))
    assert fleet.commands == []


def test_a_node_that_reconnected_is_not_judged_by_the_end_of_its_old_stream():
    fleet = Fleet("a-1", "b-1")
    fleet.hang_up("a-1")
    fleet.status("a-1")
    fleet.status("b-1", a_1=False)
    assert fleet.commands == []


def test_a_node_without_a_stream_that_peers_reach_stays_routable():
    fleet = Fleet("a-1", "b-1")
    fleet.hang_up("a-1")
    fleet.status("b-1", a_1=True)
    fleet.pass_ms(7_000, reporting=("b-1",))
    assert fleet.health("a-1") is SUSPECT


def test_many_streams_that_end_at_once_make_no_node_unroutable():
    fleet = Fleet(*names(20))
    gone, left = names(20)[:12], names(20)[12:]
    fleet.hang_up(*gone)
    failed = {name.replace("-", "_"): False for name in gone}
    for node_id in left:
        fleet.status(node_id, **failed)
    assert fleet.commands == []


def test_dead_nodes_do_not_count_among_the_streams_that_ended_at_once():
    fleet = Fleet(*names(20))
    for dead in names(20)[:12]:
        fleet.hang_up(dead)
    fleet.pass_ms(60_000, reporting=names(20)[12:])
    fleet.commands += fleet.detector.handle(FreezeLifted(), fleet.now_ms)
    fleet.pass_ms(1_000, reporting=names(20)[12:])
    assert sum(health is DEAD for health in fleet.detector.healths().values()) == 12
    last, witness = names(20)[18:]
    fleet.hang_up(last)
    fleet.pass_ms(500)
    fleet.status(witness, **{last.replace("-", "_"): False})
    assert fleet.health(last) is UNROUTABLE


def test_a_failed_probe_counts_until_it_is_stale():
    fleet = Fleet("a-1", "b-1")
    fleet.pass_ms(3_000, reporting=("b-1",))
    fleet.status("b-1", a_1=False)
    fleet.pass_ms(3_000, reporting=("b-1",))
    assert fleet.health("a-1") is UNROUTABLE
    stale = Fleet("a-1", "b-1", policy=DetectorPolicy(probe_fresh_ms=3_000))
    stale.status("b-1", a_1=False)
    stale.pass_ms(6_500, reporting=("b-1",))
    assert stale.health("a-1") is SUSPECT


def test_a_successful_probe_makes_an_unroutable_node_routable():
    fleet = Fleet("a-1", "b-1")
    fleet.pass_ms(6_000, reporting=("b-1",))
    fleet.status("b-1", a_1=False)
    fleet.status("b-1", a_1=True)
    assert fleet.health("a-1") is SUSPECT


def test_an_unroutable_node_without_new_probes_stays_unroutable():
    fleet = Fleet("a-1", "b-1")
    fleet.pass_ms(6_000, reporting=("b-1",))
    fleet.status("b-1", a_1=False)
    fleet.pass_ms(10_000, reporting=("b-1",))
    assert fleet.health("a-1") is UNROUTABLE


def test_a_node_cannot_report_a_probe_of_itself():
    fleet = Fleet("a-1")
    fleet.status("a-1", a_1=False)
    fleet.pass_ms(6_000)
    assert fleet.health("a-1") is SUSPECT


def test_after_a_restart_leases_begin_again_and_health_stays_until_a_change():
    for health in NodeHealth:
        fleet = Fleet("a-1", health=health)
        fleet.pass_ms(5_500)
        assert fleet.commands == []
        fleet.status("a-1")
        assert fleet.health("a-1") is READY


def test_after_a_restart_silence_counts_from_the_end_of_the_time_to_reconnect():
    fleet = Fleet()
    fleet.detector.handle(NodeListed("a-1", READY, returning=True), fleet.now_ms)
    fleet.detector.handle(NodeListed("b-1", READY, returning=True), fleet.now_ms)
    fleet.pass_ms(10_000)
    fleet.status("b-1", a_1=False)
    fleet.pass_ms(5_000)
    assert fleet.commands == []
    fleet.pass_ms(1_000)
    assert fleet.commands == [SetHealth("b-1", SUSPECT)]  # it had returned, and is gone again
    fleet.pass_ms(POLICY.reconnect_ms - 16_000 + POLICY.suspect_ms)
    assert fleet.health("a-1") is SUSPECT
    fleet.pass_ms(POLICY.lease_ms - POLICY.suspect_ms)
    assert fleet.health("a-1") is DEAD


def test_a_stall_of_the_coordinator_does_not_shorten_the_time_to_reconnect():
    fleet = Fleet()
    fleet.detector.handle(NodeListed("a-1", READY, returning=True), fleet.now_ms)
    fleet.now_ms += 30_000
    fleet.commands += fleet.detector.handle(Ticked(), fleet.now_ms)
    fleet.pass_ms(35_500)
    assert fleet.commands == []


def test_a_removed_node_is_forgotten():
    fleet = Fleet("a-1")
    fleet.detector.handle(NodeUnlisted("a-1"), fleet.now_ms)
    fleet.pass_ms(60_000)
    fleet.status("a-1")
    assert fleet.commands == []
    assert fleet.detector.healths() == {}


def test_what_a_removed_node_said_of_others_is_forgotten_with_it():
    fleet = Fleet("a-1", "b-1", "c-1")
    fleet.pass_ms(3_000, reporting=("a-1", "b-1"))
    fleet.status("b-1", c_1=False)
    fleet.detector.handle(NodeUnlisted("b-1"), fleet.now_ms)
    fleet.pass_ms(4_000, reporting=("a-1",))
    assert fleet.health("c-1") is SUSPECT


def test_a_stall_of_the_coordinator_is_not_counted_as_silence():
    fleet = Fleet("a-1", "b-1")
    fleet.pass_ms(2_000, reporting=("a-1", "b-1"))
    fleet.now_ms += 120_000
    fleet.commands += fleet.detector.handle(Ticked(), fleet.now_ms)
    assert fleet.commands == []
    fleet.pass_ms(30_500)
    assert fleet.health("a-1") is DEAD


def names(count: int) -> tuple[str, ...]:
    return tuple(f"n-{index:03}" for index in range(count))


def test_ten_of_thirty_freeze_nine_do_not():
    fleet = Fleet(*names(30))
    fleet.pass_ms(40_000, reporting=names(30)[:21])
    assert not fleet.detector.frozen
    assert sum(health is DEAD for health in fleet.detector.healths().values()) == 9
    fleet = Fleet(*names(30))
    fleet.pass_ms(40_000, reporting=names(30)[:20])
    assert fleet.detector.frozen
    assert RaiseFreezeAlarm(10, 30) in fleet.commands
    assert set(fleet.detector.healths().values()) == {READY, SUSPECT}


def test_thirty_percent_of_many_do_not_freeze_and_more_do():
    for missing, frozen in ((30, False), (31, True)):
        fleet = Fleet(*names(100))
        fleet.pass_ms(40_000, reporting=names(100)[missing:])
        assert fleet.detector.frozen is frozen


def test_nothing_gets_worse_in_a_freeze_but_returning_nodes_get_better():
    fleet = Fleet(*names(20))
    fleet.pass_ms(7_000, reporting=names(20)[:8])
    assert fleet.detector.frozen
    fleet.status("n-000", **{f"n_{index:03}": False for index in range(8, 20)})
    fleet.pass_ms(3_600_000, reporting=names(20)[:8])
    assert set(fleet.detector.healths().values()) == {READY, SUSPECT}
    fleet.status("n-019")
    assert fleet.health("n-019") is READY
    assert fleet.detector.frozen


def test_returning_nodes_end_a_freeze_and_the_rest_get_a_new_lease():
    fleet = Fleet(*names(20))
    fleet.pass_ms(60_000, reporting=names(20)[:8])
    back = names(20)[:17]
    fleet.pass_ms(500, reporting=back)
    assert not fleet.detector.frozen
    assert ClearFreezeAlarm(3, by_operator=False) in fleet.commands
    assert fleet.health("n-019") is SUSPECT
    fleet.pass_ms(29_000, reporting=back)
    assert fleet.health("n-019") is SUSPECT
    fleet.pass_ms(1_500, reporting=back)
    assert fleet.health("n-019") is DEAD


def test_an_operator_ends_a_freeze_and_it_does_not_come_back_for_the_same_nodes():
    fleet = Fleet(*names(20))
    fleet.pass_ms(60_000, reporting=names(20)[:8])
    fleet.commands += fleet.detector.handle(FreezeLifted(), fleet.now_ms)
    assert ClearFreezeAlarm(12, by_operator=True) in fleet.commands
    fleet.pass_ms(1_000, reporting=names(20)[:8])
    assert not fleet.detector.frozen
    assert sum(health is DEAD for health in fleet.detector.healths().values()) == 12
    assert fleet.detector.handle(FreezeLifted(), fleet.now_ms) == []


def test_the_next_deadline_is_that_of_the_next_change():
    fleet = Fleet("a-1")
    assert fleet.detector.next_deadline_ms() == 1_000 + POLICY.suspect_ms
    fleet.pass_ms(6_000)
    assert fleet.detector.next_deadline_ms() == 1_000 + POLICY.lease_ms
    fleet.pass_ms(30_000)
    assert fleet.detector.next_deadline_ms() is None


#: (time since the event before, whether node "a" reports, what "b" says of it)
steps = st.lists(
    st.tuples(st.floats(1.0, 4_000.0), st.booleans(), st.sampled_from([None, True, False])),
    max_size=60,
)


@given(steps)
def test_no_death_before_the_lease_ends_and_death_within_the_bound(
    steps: list[tuple[float, bool, bool | None]],
):
    """Any events in any order, with gaps shorter than a stall of the coordinator."""
    now_ms = heard_ms = 0.0
    detector = FailureDetector(POLICY, now_ms)
    for node_id in ("a", "b"):
        detector.handle(NodeListed(node_id, READY), now_ms)
    for gap_ms, reports, said in steps:
        now_ms += gap_ms
        detector.handle(Ticked(), now_ms)
        silence_ms = now_ms - heard_ms
        health = detector.health_of("a")
        if silence_ms < POLICY.lease_ms:
            assert health is not DEAD
        else:
            assert health is DEAD
        if silence_ms < POLICY.suspect_ms:
            assert health is READY
        detector.handle(StatusReceived("b", {} if said is None else {"a": said}), now_ms)
        if reports:
            detector.handle(StatusReceived("a"), now_ms)
            heard_ms = now_ms
            assert detector.health_of("a") is READY


@given(st.integers(1, 60), st.data())
def test_a_freeze_holds_off_every_removal(size: int, data: st.DataObject):
    """No tick that sees too many missing ever removes one."""
    nodes = names(size)
    fleet = Fleet(*nodes)
    for _ in range(data.draw(st.integers(1, 30))):
        reporting = data.draw(st.sets(st.sampled_from(nodes)))
        fleet.now_ms += data.draw(st.floats(100.0, 5_900.0))
        before = fleet.detector.healths()
        fleet.status(*reporting)
        fleet.detector.handle(Ticked(), fleet.now_ms)
        if fleet.detector.frozen:
            after = fleet.detector.healths()
            removed = {
                one
                for one in nodes
                if after[one] in (UNROUTABLE, DEAD) and before[one] in (READY, SUSPECT)
            }
            assert removed == set()
