from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.table_builder import ReplicaReport, replica_changes
from protos.domain.resources import Replica, ReplicaState
from tests.support.fleets import profile

PROFILE = profile()
KNOWN = {"acme/a@1", "acme/b@1"}


def row(model: str, state: ReplicaState = ReplicaState.READY, generation: int = 1) -> Replica:
    return Replica("gru-1", model, state, PROFILE, generation)


def changes(reports, rows=(), of=PROFILE):
    by_model = {one.model: one for one in rows}
    return replica_changes("gru-1", reports, dict.fromkeys(KNOWN, of), by_model)


def test_a_reported_model_becomes_a_row_of_the_reporting_node():
    report = ReplicaReport("acme/a@1", ReplicaState.STARTING, 3)
    assert changes([report]).upserts == (row("acme/a@1", ReplicaState.STARTING, 3),)


def test_an_equal_report_changes_nothing():
    assert not changes([ReplicaReport("acme/a@1", ReplicaState.READY, 1)], [row("acme/a@1")])


def test_a_model_no_longer_reported_is_removed():
    assert changes([], [row("acme/a@1")]).removes == (("gru-1", "acme/a@1"),)


def test_a_model_that_is_not_in_the_registry_gets_no_row():
    assert not changes([ReplicaReport("acme/strange@1", ReplicaState.READY, 1)])


def test_another_profile_is_a_change():
    report = ReplicaReport("acme/a@1", ReplicaState.READY, 1)
    (written,) = changes([report], [row("acme/a@1")], of=profile(90.0)).upserts
    assert written.profile.first_token_ms_p99 == 90.0


reports = st.builds(
    ReplicaReport,
    st.sampled_from(["acme/a@1", "acme/b@1", "acme/strange@1"]),
    st.sampled_from(list(ReplicaState)),
    st.integers(0, 3),
)
rows = st.builds(row, st.sampled_from(sorted(KNOWN)), st.sampled_from(list(ReplicaState)))


@given(st.lists(reports, max_size=4), st.lists(rows, max_size=3))
def test_applied_changes_leave_no_further_change(reported, present):
    after = {one.model: one for one in present}
    first = changes(reported, after.values())
    for _, model in first.removes:
        del after[model]
    after |= {one.model: one for one in first.upserts}
    assert not changes(reported, after.values())
    assert set(after) == {one.model for one in reported} & KNOWN
