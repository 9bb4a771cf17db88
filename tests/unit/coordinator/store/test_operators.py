"""Operators' rows and invitations: one use, one key, and an admin that stays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.operators import Operator, Role
from coordinator.store import operators, pops, tokens
from coordinator.store.records import Purpose, RefusalCause, TokenRecord, TokenRefused
from protos.domain.errors import Conflict, NotFound
from tests.support.stores import DAY_MS, GRU, HOUR_MS, START_UNIX_MS, token_record

UNTIL = START_UNIX_MS + 60 * DAY_MS
ANA = Operator("ana", Role.ADMIN, 1, "coordinator", b"a" * 32, 1, UNTIL)


@pytest.fixture
def store(store):
    store.write(pops.put(GRU))
    store.write(operators.put(ANA))
    return store


def invite(store, token_id, name, role="operator", by="operator/ana"):
    token = TokenRecord(
        token_id, b"s", Purpose.OPERATOR, name, START_UNIX_MS + HOUR_MS, role=role, created_by=by
    )
    return store.write(tokens.create(token))


def redeem(store, token_id, key=b"b" * 32, purpose=Purpose.OPERATOR):
    return store.write(
        tokens.redeem(
            token_id,
            purpose,
            public_key_sha256=key,
            certificate_pem=b"PEM " + key[:1],
            serial=7,
            not_after_unix_ms=UNTIL,
            actor="anonymous@10.0.0.1",
        )
    )


def refusal(store, *args, **kwargs):
    with pytest.raises(TokenRefused) as caught:
        redeem(store, *args, **kwargs)
    return caught.value.cause


def test_an_invitation_makes_one_operator_with_the_role_and_the_key(store):
    invite(store, "t", "bo", "viewer")
    assert redeem(store, "t").role == "viewer"
    bo = store.facts.operators["bo"]
    assert (bo.role, bo.invited_by, bo.admits(b"b" * 32)) == (Role.VIEWER, "operator/ana", True)
    assert (bo.certificate_serial, bo.certificate_not_after_unix_ms) == (7, UNTIL)


def test_an_invitation_used_twice_is_refused_to_another_key_and_repeated_to_the_same(store):
    invite(store, "t", "bo")
    redeem(store, "t")
    assert redeem(store, "t").again
    assert refusal(store, "t", key=b"c" * 32) is RefusalCause.REUSED


def test_an_expired_invitation_is_refused(store):
    invite(store, "t", "bo")
    store.clock.unix_ms += HOUR_MS
    assert refusal(store, "t") is RefusalCause.EXPIRED


def test_a_token_for_a_node_makes_no_operator_and_the_reverse(store):
    store.write(tokens.create(token_record("n", "gru-1")))
    invite(store, "t", "bo")
    assert refusal(store, "n") is RefusalCause.OTHER_PURPOSE
    assert refusal(store, "t", purpose=Purpose.NODE) is RefusalCause.OTHER_PURPOSE
    assert set(store.facts.operators) == {"ana"}
    assert store.facts.nodes == {}


def test_a_name_in_use_is_not_invited(store):
    with pytest.raises(Conflict, match="exists"):
        invite(store, "t", "ana")


def test_the_same_answer_is_not_repeated_to_a_revoked_operator(store):
    invite(store, "t", "bo")
    redeem(store, "t")
    store.write(operators.revoke("bo"))
    assert refusal(store, "t") is RefusalCause.REMOVED


def test_a_name_that_is_invited_again_does_not_let_the_old_key_in(store):
    invite(store, "t", "bo")
    redeem(store, "t")
    store.write(operators.revoke("bo"))
    invite(store, "u", "bo")
    redeem(store, "u", key=b"c" * 32)
    bo = store.facts.operators["bo"]
    assert bo.admits(b"c" * 32)
    assert not bo.admits(b"b" * 32)


def test_an_invitation_that_was_not_used_can_be_revoked(store):
    invite(store, "t", "bo")
    store.write(operators.revoke("bo"))
    assert refusal(store, "t") is RefusalCause.UNKNOWN
    with pytest.raises(NotFound):
        store.write(operators.revoke("bo"))


@pytest.mark.parametrize(
    "change", [operators.revoke("bo"), operators.set_role("bo", Role.OPERATOR)]
)
def test_who_loses_the_right_to_invite_leaves_no_invitation_behind(store, change):
    store.write(operators.put(replace(ANA, name="bo")))
    invite(store, "back-door", "mallory", "admin", by="operator/bo")
    store.write(tokens.create(replace(token_record("node", "gru-9"), created_by="operator/bo")))
    invite(store, "other", "carl")
    store.write(change)
    assert refusal(store, "back-door") is RefusalCause.UNKNOWN
    assert refusal(store, "node", purpose=Purpose.NODE) is RefusalCause.UNKNOWN
    assert redeem(store, "other").name == "carl"


@pytest.mark.parametrize(
    "change", [operators.revoke, lambda name: operators.set_role(name, Role.VIEWER)]
)
def test_the_last_admin_is_neither_revoked_nor_demoted(store, change):
    with pytest.raises(Conflict, match="last admin"):
        store.write(change("ana"))
    store.write(operators.put(replace(ANA, name="bo", certificate_not_after_unix_ms=1)))
    with pytest.raises(Conflict, match="last admin"):
        store.write(change("ana"))
    store.write(operators.put(replace(ANA, name="bo")))
    store.write(change("ana"))
    with pytest.raises(Conflict, match="last admin"):
        store.write(change("bo"))


def test_a_renewal_keeps_role_and_key_and_is_refused_after_a_revocation(store):
    store.write(operators.put(replace(ANA, name="bo")))
    store.write(operators.note_certificate("bo", 99, UNTIL + 1))
    expected = replace(
        ANA, name="bo", certificate_serial=99, certificate_not_after_unix_ms=UNTIL + 1
    )
    assert store.facts.operators["bo"] == expected
    store.write(operators.revoke("bo"))
    with pytest.raises(NotFound):
        store.write(operators.note_certificate("bo", 100, UNTIL + 2))
