"""Salts: one for each account and agent, in the form that an engine takes."""

from __future__ import annotations

import hashlib
import hmac
import re

from agent.core.cache_salt import SECRET_BYTES, cache_salt

ONE, OTHER = bytes(SECRET_BYTES), b"\1" * SECRET_BYTES


def test_an_account_has_one_salt_on_an_agent_and_another_on_the_next() -> None:
    assert cache_salt(ONE, "acme") == cache_salt(ONE, "acme")
    assert cache_salt(ONE, "acme") != cache_salt(OTHER, "acme")


def test_two_accounts_never_share_a_salt_not_even_if_one_name_begins_with_the_other() -> None:
    names = ["acme", "acme-2", "acm", "a", "e"]
    assert len({cache_salt(ONE, name) for name in names}) == len(names)


def test_it_is_an_hmac_in_characters_that_an_engine_accepts() -> None:
    salt = cache_salt(ONE, "acme")
    assert re.fullmatch(r"[0-9a-f]{64}", salt)
    assert salt == hmac.new(ONE, b"acme", hashlib.sha256).hexdigest()
