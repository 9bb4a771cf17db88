"""``audit ls``: pages until the limit is filled, and what ``--since`` may say."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime

import pytest

from coordinator.cli import audit
from protos.domain.errors import InvalidRequest
from protos.v1 import admin_pb2

NOW_UNIX_MS = 1_790_000_000_000


class PagedAudit:
    """A coordinator with a number of entries that answers at most five at once."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[admin_pb2.ListAuditRequest] = []

    def call(self, method, request):
        copy = admin_pb2.ListAuditRequest()
        copy.CopyFrom(request)
        self.asked.append(copy)
        newest = request.before_seq - 1 if request.before_seq else self.count
        last = max(0, newest - min(request.limit, 5))
        entries = [admin_pb2.AuditEntry(seq=seq, action="did") for seq in range(newest, last, -1)]
        return admin_pb2.ListAuditResponse(entries=entries, more=last > 0)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run ``audit ls`` and return what it prints to both streams."""

    def run(client, **options):
        monkeypatch.setattr(audit, "admin", lambda: contextlib.nullcontext(client))
        audit.list_audit(**options)
        return capsys.readouterr()

    return run


def test_pages_until_the_limit_is_filled_and_says_that_older_ones_exist(run):
    client = PagedAudit(40)
    printed = run(client, limit=12, json_output=True)
    assert [int(one["seq"]) for one in json.loads(printed.out)] == list(range(40, 28, -1))
    assert "12 shown; there are older ones" in printed.err
    assert [(one.limit, one.before_seq) for one in client.asked] == [(12, 0), (7, 36), (2, 31)]


def test_all_entries_are_shown_without_a_word_about_others(run):
    printed = run(PagedAudit(7), limit=100, json_output=True)
    assert len(json.loads(printed.out)) == 7
    assert printed.err == ""


def test_filters_are_the_coordinators(run):
    client = PagedAudit(1)
    run(client, actor="operator/ana", action="key.", strangers=True, since="2026-01-02")
    (asked,) = client.asked
    assert (asked.actor, asked.action, asked.strangers) == ("operator/ana", "key.", True)
    assert asked.since_unix_ms == datetime(2026, 1, 2, tzinfo=UTC).timestamp() * 1_000


@pytest.mark.parametrize(
    ("text", "unix_ms"),
    [
        ("", 0),
        ("30m", NOW_UNIX_MS - 1_800_000),
        ("24h", NOW_UNIX_MS - 86_400_000),
        ("7d", NOW_UNIX_MS - 7 * 86_400_000),
        ("999999999d", 0),
        ("1970-01-01T00:00:01+00:00", 1_000),
        ("1970-01-01T01:00:01+01:00", 1_000),
    ],
)
def test_since(text, unix_ms):
    assert audit.since_unix_ms(text, NOW_UNIX_MS) == unix_ms


@pytest.mark.parametrize("text", ["yesterday", "5", "-3d", "1e3d"])
def test_a_since_that_is_no_time_is_refused(text):
    with pytest.raises(InvalidRequest, match="is no time"):
        audit.since_unix_ms(text, NOW_UNIX_MS)
