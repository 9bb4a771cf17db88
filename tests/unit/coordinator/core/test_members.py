"""Members' roles, names of accounts and addresses of email."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.members import (
    GRANTS,
    NOTED_EVERY_MS,
    RESERVED_ACCOUNTS,
    Invitation,
    Member,
    MemberRole,
    MemberToken,
    check_email,
    check_new_account,
    check_token_name,
    checked_role,
    is_use_noted,
    leaves_no_owner,
    may_give,
)
from protos.domain.errors import InvalidRequest
from protos.domain.ids import check_account_id

OWNER = Member("m-1", "acme", "a@x.org", MemberRole.OWNER, 1)
TOKEN = MemberToken("t", "m-1", b"d" * 32, "", 0, 100)


@pytest.mark.parametrize("text", ["ana@example.org", "a+b.c@x-y.co", "A@EXAMPLE.org"])
def test_an_address_of_email_is_kept_with_its_domain_in_lower_case(text):
    local, _, domain = text.partition("@")
    assert check_email(f" {text} ") == f"{local}@{domain.lower()}"


@pytest.mark.parametrize(
    "text", ["", "ana", "@x.org", "a@x", "a b@x.org", "a@x.org\n@y.org", "a@x..org", "é@x.org",
             "a" * 65 + "@x.org", "a@" + "b" * 260 + ".org", "a@x.org>"],
)  # fmt: skip
def test_what_is_no_address_of_email_is_refused(text):
    with pytest.raises(InvalidRequest, match="no email address"):
        check_email(text)


@pytest.mark.parametrize("name", ["acme", "a1b", "acme-eu-2", "a" * 40])
def test_a_customer_may_take_a_plain_name(name):
    assert check_account_id(check_new_account(name)) == name


@pytest.mark.parametrize(
    "name",
    ["", "ab", "a" * 41, "1acme", "acme-", "-acme", "ac--me", "Acme", "a_b", "acme\n", "\u0430cme"],
)
def test_a_name_that_could_be_taken_for_another_is_refused(name):
    with pytest.raises(InvalidRequest, match="no name for an account"):
        check_new_account(name)


@pytest.mark.parametrize("name", [*sorted(RESERVED_ACCOUNTS - {"me", "v1"}), "edgeforge-x"])
def test_a_name_of_the_fleets_own_is_reserved(name):
    with pytest.raises(InvalidRequest):
        check_new_account(name)


def test_a_tokens_name_is_short_text():
    assert check_token_name("laptop of Ana") == "laptop of Ana"
    for name in ("x" * 81, "a\nb", "\x1b[31m"):
        with pytest.raises(InvalidRequest):
            check_token_name(name)


def test_a_role_is_one_of_the_table():
    assert checked_role("billing") is MemberRole.BILLING
    with pytest.raises(InvalidRequest, match="there are owner"):
        checked_role("root")


@given(st.sampled_from(MemberRole), st.sampled_from(MemberRole))
def test_nobody_gives_what_they_could_not_hold(own, other):
    if may_give(own, other):
        assert GRANTS[own] >= GRANTS[other]
    assert may_give(own, own, other) == (may_give(own, own) and may_give(own, other))


def test_an_account_keeps_an_owner():
    admin = replace(OWNER, id="m-2", role=MemberRole.ADMIN)
    assert leaves_no_owner([OWNER, admin], "m-1")
    assert not leaves_no_owner([OWNER, admin], "m-2")
    assert not leaves_no_owner([OWNER, replace(OWNER, id="m-3")], "m-1")


def test_a_token_and_an_invitation_end_at_their_time():
    assert TOKEN.is_live(99)
    assert not TOKEN.is_live(100)
    assert replace(TOKEN, expires_unix_ms=0).is_live(2**60)
    invitation = Invitation("i", b"d" * 32, "", MemberRole.OWNER, "", 0, "operator/ana", 100)
    assert invitation.is_live(99)
    assert not invitation.is_live(100)


def test_a_use_is_written_once_an_hour_and_after_a_clock_that_went_back():
    used = replace(TOKEN, last_used_unix_ms=10 * NOTED_EVERY_MS)
    assert is_use_noted(used, used.last_used_unix_ms + NOTED_EVERY_MS - 1)
    assert not is_use_noted(used, used.last_used_unix_ms + NOTED_EVERY_MS)
    assert not is_use_noted(used, used.last_used_unix_ms - NOTED_EVERY_MS)


def test_no_secret_is_in_the_words_of_a_token_or_an_invitation():
    assert "ddd" not in repr(TOKEN)
