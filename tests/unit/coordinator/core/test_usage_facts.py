"""Facts are read from what has changed, and only from that."""

from coordinator.core.usage_facts import FactReader
from protos.domain.customers import Account
from protos.domain.fleet_view import with_changes
from tests.support.usage_fleet import view


def test_a_view_that_is_read_again_has_nothing_new():
    reader, first = FactReader(), view()
    facts = list(reader.changed(first))
    assert ("account", "acme") in facts
    assert ("replica", "gru-1", "acme/small@1") in facts
    assert list(reader.changed(first)) == []


def test_only_the_table_that_changed_is_read():
    reader, first = FactReader(), view()
    list(reader.changed(first))
    second = with_changes(first, (), [Account("globex", zones=("BR",))])
    assert list(reader.changed(second)) == [
        ("account", "acme"),
        ("account", "globex"),
        ("pinned", "account", "globex"),
    ]
