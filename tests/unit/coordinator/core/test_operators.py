"""Operators: who is admitted, and when the last admin would go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.operators import Operator, Role, leaves_no_admin

NOW = 1_000_000
ANA = Operator("ana", Role.ADMIN, 1, "coordinator", b"a" * 32, 1, NOW + 1)
BO = replace(ANA, name="bo", public_key_sha256=b"b" * 32)


def test_only_the_key_of_the_row_is_admitted_and_none_after_a_revocation():
    assert ANA.admits(b"a" * 32)
    assert not ANA.admits(b"b" * 32)
    assert not ANA.admits(b"")
    assert not replace(ANA, revoked_unix_ms=5).admits(b"a" * 32)


def test_a_renewed_certificate_changes_nothing_of_who_is_admitted():
    assert replace(ANA, certificate_serial=9, certificate_not_after_unix_ms=0).admits(b"a" * 32)


@pytest.mark.parametrize(
    ("other", "last"),
    [
        (BO, False),
        (replace(BO, role=Role.OPERATOR), True),
        (replace(BO, revoked_unix_ms=5), True),
        # Its certificate has expired: it could not log in.
        (replace(BO, certificate_not_after_unix_ms=NOW), True),
    ],
)
def test_an_admin_who_cannot_log_in_is_no_other_admin(other, last):
    assert leaves_no_admin([ANA, other], "ana", NOW) is last


def test_a_fleet_without_others_has_one_admin_only():
    assert leaves_no_admin([ANA], "ana", NOW)
    assert leaves_no_admin([], "ana", NOW)
