"""Tokens: one use, an hour, one key; a name is reserved while a certificate of it is valid."""

from __future__ import annotations

import pytest

from coordinator.store import audit, nodes, pops, tokens
from coordinator.store.records import (
    AuditNote,
    AuditQuery,
    Purpose,
    RefusalCause,
    TokenRefused,
)
from protos.domain.errors import Conflict, NotFound, Overloaded
from tests.support.stores import (
    DAY_MS,
    GRU,
    HOUR_MS,
    START_UNIX_MS,
    token_record,
)


@pytest.fixture
def store(store):
    store.write(pops.put(GRU))
    return store


def create(store, token, note=None):
    return store.write(tokens.create(token, note))


def redeem(store, token_id, key=b"k" * 32, pem=b"FIRST", serial=1, purpose=Purpose.NODE):
    return store.write(
        tokens.redeem(
            token_id,
            purpose,
            public_key_sha256=key,
            certificate_pem=pem,
            serial=serial,
            not_after_unix_ms=START_UNIX_MS + 30 * DAY_MS,
            actor="anonymous@10.0.0.1",
        )
    )


def refusal(store, *args, **kwargs):
    with pytest.raises(TokenRefused) as caught:
        redeem(store, *args, **kwargs)
    return caught.value.cause


def test_first_use_enrols_and_is_audited(store):
    create(store, token_record("t", "gru-1"))
    redemption = redeem(store, "t")
    assert (redemption.name, redemption.pop_id, redemption.again) == ("gru-1", "GRU", False)
    assert redemption.certificate_pem == b"FIRST"
    assert store.facts.nodes["gru-1"].enrolled_unix_ms == START_UNIX_MS
    (entry,) = audit.page(AuditQuery(1))(store.connection).entries
    assert entry.note.action == "enrolment.accepted"
    assert (b"k" * 32).hex() in entry.note.detail


def test_the_same_key_again_gets_the_same_certificate(store):
    create(store, token_record("t", "gru-1"))
    redeem(store, "t")
    again = redeem(store, "t", pem=b"SECOND", serial=2)
    assert again.again
    assert again.certificate_pem == b"FIRST"
    assert [one.serial for one in store.facts.nodes["gru-1"].certificates] == [1]


def test_another_key_is_refused(store):
    create(store, token_record("t", "gru-1"))
    redeem(store, "t")
    assert refusal(store, "t", key=b"z" * 32) is RefusalCause.REUSED


def test_expired_used_or_not(store):
    create(store, token_record("unused", "gru-1"))
    create(store, token_record("used", "gru-2"))
    redeem(store, "used")
    store.clock.unix_ms += HOUR_MS
    assert refusal(store, "unused") is RefusalCause.EXPIRED
    assert refusal(store, "used") is RefusalCause.EXPIRED


def test_unknown(store):
    assert refusal(store, "nope") is RefusalCause.UNKNOWN


def test_a_removed_node_does_not_come_back_with_its_old_token(store):
    create(store, token_record("t", "gru-1"))
    redeem(store, "t")
    store.write(nodes.remove("gru-1"))
    assert refusal(store, "t") is RefusalCause.REMOVED


def test_a_newer_token_of_a_name_voids_the_older(store):
    create(store, token_record("old", "gru-1"))
    create(store, token_record("new", "gru-1"))
    assert refusal(store, "old") is RefusalCause.UNKNOWN
    assert redeem(store, "new").name == "gru-1"


def test_the_coordinator_names_nodes_and_skips_names_that_are_taken(store):
    create(store, token_record("a", "gru-2"))
    named = [create(store, token_record(one)).name for one in ("b", "c")]
    assert named == ["gru-1", "gru-3"]


def test_the_audit_note_has_the_chosen_name_and_no_secret(store):
    create(store, token_record("a"), AuditNote("operator/ana", "token.create", ""))
    (entry,) = audit.page(AuditQuery(1))(store.connection).entries
    assert entry.note.subject == "node/gru-1"


def test_an_enrolled_name_is_not_assigned_again(store):
    create(store, token_record("t", "gru-1"))
    redeem(store, "t")
    with pytest.raises(Conflict, match="is enrolled"):
        create(store, token_record("u", "gru-1"))


def test_a_removed_name_is_reserved_until_its_certificates_have_expired(store):
    create(store, token_record("t", "gru-1"))
    redeem(store, "t")
    store.write(nodes.remove("gru-1"))
    with pytest.raises(Conflict, match="has not expired"):
        create(store, token_record("u", "gru-1"))
    assert create(store, token_record("v")).name == "gru-2"
    store.clock.unix_ms += 31 * DAY_MS
    later = token_record("w", "gru-1", ttl_ms=32 * DAY_MS)
    assert create(store, later).name == "gru-1"


def test_unknown_pop(store):
    with pytest.raises(NotFound, match="no POP 'XXX'"):
        create(store, token_record("t", pop_id="XXX"))


def test_valid_tokens_are_limited_and_expired_ones_do_not_count(store, monkeypatch):
    monkeypatch.setattr(tokens, "MAX_LIVE_TOKENS", 2)
    for token_id in ("a", "b"):
        create(store, token_record(token_id))
    with pytest.raises(Overloaded):
        create(store, token_record("c"))
    store.clock.unix_ms += 2 * HOUR_MS
    create(store, token_record("c", ttl_ms=3 * HOUR_MS))


def test_long_expired_tokens_are_dropped(store):
    create(store, token_record("a"))
    store.clock.unix_ms += 30 * DAY_MS
    create(store, token_record("b", ttl_ms=31 * DAY_MS))
    assert tokens.by_id("a")(store.connection) is None
    assert tokens.by_id("b")(store.connection) is not None
