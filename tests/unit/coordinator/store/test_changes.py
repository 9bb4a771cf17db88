"""History: deltas back to a floor, bounded."""

from __future__ import annotations

import pytest

from coordinator.store import history as history_module
from coordinator.store.history import History
from protos.domain.resources import ResourceType
from protos.domain.routing_table import TableVersion, table_of


def table_at(version, **rows):
    payloads = {key: value.encode() for key, value in rows.items()}
    return table_of(ResourceType.TOPOLOGY, TableVersion(1, version), payloads)


def history_of(*changes_made):
    history = History()
    for seq, key in changes_made:
        history.append(seq, key)
    return history


def test_delta_holds_each_touched_key_once_as_it_is_now():
    history = history_of((3, "a"), (5, "b"), (9, "a"), (12, "gone"))
    delta = history.delta(table_at(12, a="new", b="old"), 4)
    assert dict(delta.upserts) == {"a": b"new", "b": b"old"}
    assert delta.removes == ("gone",)
    assert (delta.from_version, delta.to_version) == (4, 12)


def test_delta_from_the_present_version_is_empty_even_below_the_floor():
    history = history_of((3, "a"))
    history.forget(3)
    delta = history.delta(table_at(3, a="x"), 3)
    assert not delta.upserts
    assert not delta.removes


@pytest.mark.parametrize("version", [0, 3, 4])
def test_no_delta_from_below_the_floor(version):
    history = history_of((3, "a"), (5, "b"), (9, "a"))
    history.forget(6)
    assert history.floor == 5
    assert history.delta(table_at(9, a="x", b="y"), version) is None


def test_no_delta_from_a_version_that_is_ahead():
    assert history_of((3, "a")).delta(table_at(3, a="x"), 4) is None


def test_over_its_limit_the_older_half_is_dropped(monkeypatch):
    monkeypatch.setattr(history_module, "HISTORY_LIMIT", 10)
    history = history_of(*((seq, "k") for seq in range(1, 12)))
    assert history.floor == 6
    assert history.delta(table_at(11, k="x"), 5) is None
    assert dict(history.delta(table_at(11, k="x"), 6).upserts) == {"k": b"x"}
