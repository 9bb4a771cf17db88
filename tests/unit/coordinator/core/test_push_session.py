from __future__ import annotations

from coordinator.core.push_session import (
    MAX_SNAPSHOT_RETRIES,
    NOTHING,
    Acked,
    Alarm,
    AlarmKind,
    Command,
    Disconnect,
    Forced,
    HelloReceived,
    Holding,
    Nacked,
    Pushed,
    PushSession,
    SendDelta,
    SendSnapshot,
    TableChanged,
    Ticked,
)
from protos.domain.resources import ResourceType
from protos.domain.routing_table import RefusalReason, TableVersion

TOPOLOGY, PRICES = ResourceType.TOPOLOGY, ResourceType.PRICES
TIMEOUT_MS = 1_000.0


def at(version: int, epoch: int = 1) -> TableVersion:
    return TableVersion(epoch, version)


def held(version: int, epoch: int = 1, digest: int | None = None) -> Holding:
    """A digest that follows from the version, unless given."""
    return Holding(at(version, epoch), version * 1_000 if digest is None else digest)


class Stream:
    """A session of one type, and a shorthand for its events."""

    def __init__(self, table: Holding, have: Holding | None = None) -> None:
        self.session = PushSession({TOPOLOGY: table}, push_timeout_ms=TIMEOUT_MS)
        self.first = self.session.handle(
            HelloReceived({} if have is None else {TOPOLOGY: have}), 0.0
        )

    def changed(self, table: Holding) -> list[Command]:
        return self.session.handle(TableChanged(TOPOLOGY, table), 0.0)

    def acked(self, nonce: int, version: TableVersion) -> list[Command]:
        return self.session.handle(Acked(TOPOLOGY, nonce, version), 0.0)

    def nacked(self, nonce: int, reason: RefusalReason, have: Holding) -> list[Command]:
        return self.session.handle(Nacked(TOPOLOGY, nonce, reason, "why", have), 0.0)


def test_an_empty_agent_gets_a_snapshot():
    assert Stream(held(5)).first == [SendSnapshot(TOPOLOGY, 1)]


def test_an_empty_table_is_sent_too():
    assert Stream(held(0)).first == [SendSnapshot(TOPOLOGY, 1)]


def test_an_agent_in_step_gets_nothing():
    stream = Stream(held(5), held(5))
    assert stream.first == []
    assert stream.session.converged


def test_an_agent_behind_gets_a_delta():
    assert Stream(held(5), held(3)).first == [SendDelta(TOPOLOGY, 1, 3)]


def test_an_older_epoch_gets_a_snapshot():
    assert Stream(held(5, epoch=2), held(9)).first == [SendSnapshot(TOPOLOGY, 1)]


def test_the_same_version_with_other_rows_raises_an_alarm_and_gets_a_snapshot():
    (alarm, push) = Stream(held(5), held(5, digest=1)).first
    assert isinstance(alarm, Alarm)
    assert alarm.kind is AlarmKind.DIGEST_MISMATCH
    assert push == SendSnapshot(TOPOLOGY, 1)


def test_an_agent_ahead_raises_one_alarm_and_gets_nothing():
    stream = Stream(held(5), held(9))
    (alarm,) = stream.first
    assert isinstance(alarm, Alarm)
    assert alarm.kind is AlarmKind.AGENT_AHEAD
    assert stream.changed(held(6)) == []
    assert stream.session.handle(Forced(TOPOLOGY), 0.0) == []
    # Later versions say nothing about its rows; the digest decides.
    assert stream.changed(held(10)) == [SendSnapshot(TOPOLOGY, 1, forced=True)]


def test_nothing_is_sent_before_hello():
    session = PushSession({TOPOLOGY: held(5)}, push_timeout_ms=TIMEOUT_MS)
    assert session.handle(TableChanged(TOPOLOGY, held(6)), 0.0) == []
    assert session.handle(Forced(TOPOLOGY), 0.0) == []
    assert not session.converged


def test_changes_coalesce_behind_an_unacknowledged_push():
    stream = Stream(held(5), held(3))
    for version in (6, 7, 8):
        assert stream.changed(held(version)) == []
    assert stream.acked(1, at(5)) == [SendDelta(TOPOLOGY, 2, 5)]
    assert stream.acked(2, at(8)) == []
    assert stream.session.converged


def test_a_push_may_lead_to_a_newer_version_than_commanded():
    stream = Stream(held(5), held(3))
    stream.changed(held(6))
    stream.session.handle(Pushed(TOPOLOGY, 1, at(6)), 0.0)
    assert stream.acked(1, at(6)) == []
    assert stream.session.converged


def test_an_agent_that_was_sent_a_newer_version_than_announced_is_not_ahead():
    """Changes are announced in rounds; a push always has the newest version."""
    stream = Stream(held(5), held(3))
    assert stream.changed(Holding(at(7), None)) == []
    assert stream.acked(1, at(7)) == []
    assert stream.session.converged
    assert stream.changed(held(6)) == []
    assert stream.changed(held(7)) == []
    assert stream.changed(held(8)) == [SendDelta(TOPOLOGY, 2, 7)]


def test_types_do_not_wait_for_one_another():
    session = PushSession({TOPOLOGY: held(5), PRICES: held(7)}, push_timeout_ms=TIMEOUT_MS)
    assert session.handle(HelloReceived({}), 0.0) == [
        SendSnapshot(TOPOLOGY, 1),
        SendSnapshot(PRICES, 2),
    ]


def test_acknowledgements_with_another_nonce_change_nothing():
    stream = Stream(held(5), held(3))
    assert stream.acked(99, at(5)) == []
    assert stream.nacked(99, RefusalReason.GAP, NOTHING) == []
    assert stream.session.handle(Acked(PRICES, 1, at(5)), 0.0) == []
    assert not stream.session.converged


def test_a_gap_or_a_digest_asks_for_a_snapshot():
    for reason in (RefusalReason.GAP, RefusalReason.DIGEST):
        stream = Stream(held(5), held(3))
        assert stream.nacked(1, reason, held(2)) == [SendSnapshot(TOPOLOGY, 2)]


def test_snapshots_refused_repeatedly_stop_until_a_newer_version():
    stream = Stream(held(5))
    for nonce in range(1, MAX_SNAPSHOT_RETRIES + 1):
        assert stream.nacked(nonce, RefusalReason.DIGEST, NOTHING) == [
            SendSnapshot(TOPOLOGY, nonce + 1)
        ]
    last = MAX_SNAPSHOT_RETRIES + 1
    (alarm,) = stream.nacked(last, RefusalReason.DIGEST, NOTHING)
    assert isinstance(alarm, Alarm)
    assert stream.changed(held(6)) == [SendSnapshot(TOPOLOGY, last + 1)]


def test_a_version_refused_for_good_is_not_sent_again():
    for reason in RefusalReason:
        if reason.wants_snapshot:
            continue
        stream = Stream(held(5), held(3))
        (alarm,) = stream.nacked(1, reason, held(3))
        assert isinstance(alarm, Alarm)
        assert alarm.kind is AlarmKind.TABLE_REFUSED
        assert reason in alarm.detail
        assert stream.changed(held(5)) == []
        assert not stream.session.converged
        assert stream.changed(held(6)) == [SendDelta(TOPOLOGY, 2, 3)]


def test_a_refusal_counts_for_the_version_that_was_sent():
    stream = Stream(held(5), held(3))
    stream.changed(held(6))
    stream.session.handle(Pushed(TOPOLOGY, 1, at(6)), 0.0)
    (alarm,) = stream.nacked(1, RefusalReason.SHRUNK, held(3))
    assert isinstance(alarm, Alarm)
    assert stream.changed(held(6)) == []


def test_a_newer_version_is_sent_after_a_refused_one():
    stream = Stream(held(5), held(3))
    stream.changed(held(6))
    (_, push) = stream.nacked(1, RefusalReason.SHRUNK, held(3))
    assert push == SendDelta(TOPOLOGY, 2, 3)


def test_the_next_delta_starts_from_what_a_refusal_reports():
    stream = Stream(held(5), held(3))
    stream.nacked(1, RefusalReason.TOO_LARGE, held(2))
    assert stream.session.holding(TOPOLOGY) == held(2)
    assert stream.changed(held(6)) == [SendDelta(TOPOLOGY, 2, 2)]


def test_force_sends_a_refused_version_again_and_a_held_one_too():
    stream = Stream(held(5), held(3))
    stream.nacked(1, RefusalReason.SHRUNK, held(3))
    assert stream.session.handle(Forced(TOPOLOGY), 0.0) == [SendSnapshot(TOPOLOGY, 2, forced=True)]
    assert stream.acked(2, at(5)) == []
    assert stream.session.handle(Forced(TOPOLOGY), 0.0) == [SendSnapshot(TOPOLOGY, 3, forced=True)]


def test_force_waits_behind_a_push_and_survives_a_gap():
    stream = Stream(held(5), held(3))
    assert stream.session.handle(Forced(TOPOLOGY), 0.0) == []
    assert stream.acked(1, at(5)) == [SendSnapshot(TOPOLOGY, 2, forced=True)]
    assert stream.nacked(2, RefusalReason.DIGEST, held(5)) == [
        SendSnapshot(TOPOLOGY, 3, forced=True)
    ]


def test_the_time_to_answer_begins_when_the_push_has_left():
    stream = Stream(held(5))
    session = stream.session
    assert session.next_deadline_ms() is None
    assert session.handle(Ticked(), 1e9) == []
    session.handle(Pushed(TOPOLOGY, 1, at(5)), 500.0)
    assert session.next_deadline_ms() == 1_500.0
    assert session.handle(Ticked(), 1_499.9) == []
    (command,) = session.handle(Ticked(), 1_500.0)
    assert isinstance(command, Disconnect)
    assert stream.changed(held(6)) == []
    assert session.handle(Ticked(), 9_999.0) == []


def test_an_answer_in_time_ends_the_deadline():
    stream = Stream(held(5))
    stream.session.handle(Pushed(TOPOLOGY, 1, at(5)), 0.0)
    stream.acked(1, at(5))
    assert stream.session.next_deadline_ms() is None
    assert stream.session.holding(TOPOLOGY).at == at(5)
