"""Invitations, roles and revocations, over a real store."""

from __future__ import annotations

import pytest

from coordinator.core.operators import Role
from coordinator.operations.operator_certificates import OperatorCertificates
from protos.domain.errors import Conflict, Forbidden, InvalidRequest, Unauthenticated
from tests.support.certificates import p256_key, request_der
from tests.support.operations import ANA_KEY, actor

STRANGER = "anonymous@192.0.2.9"
HOUR_MS = 3_600_000
KEY = p256_key()


@pytest.fixture
def certificates(fleet):
    return OperatorCertificates(fleet.store, fleet.authority, fleet.clock)


async def invited(ops, name="carl", role="operator"):
    invitation = await ops.operators.invite(actor(), name, role)
    prefix, _, token_id, secret = invitation.text.split(".")
    assert prefix == "EFO1"
    return token_id, secret


async def refusal(fleet, call) -> str:
    with pytest.raises(Unauthenticated, match="is not valid"):
        await call
    refusals = [note for note in await fleet.notes() if note[1] == "enrolment.refused"]
    return refusals[-1][3]


async def test_an_invitation_makes_an_operator_of_the_holder_of_one_key(fleet, ops, certificates):
    made = await certificates.enrol(STRANGER, *await invited(ops), request_der(KEY))
    assert (made.name, made.role) == ("carl", "operator")
    carl = fleet.store.operators()["carl"]
    assert (carl.role, carl.invited_by) == (Role.OPERATOR, "operator/ana")
    days = (carl.certificate_not_after_unix_ms - fleet.clock()) / 86_400_000
    assert 30 <= days <= 90
    assert [note[1] for note in await fleet.notes()][-2:] == [
        "operator.invite",
        "enrolment.accepted",
    ]


async def test_a_used_expired_forged_or_unknown_invitation_is_refused_and_audited_with_the_cause(
    fleet, ops, certificates
):
    token_id, secret = await invited(ops)
    csr = request_der(KEY)
    assert "cause=unknown operator=unknown" in await refusal(
        fleet, certificates.enrol(STRANGER, "nope", secret, csr)
    )
    assert "cause=forged operator=carl" in await refusal(
        fleet, certificates.enrol(STRANGER, token_id, "wrong", b"junk")
    )
    first = await certificates.enrol(STRANGER, token_id, secret, csr)
    again = await certificates.enrol(STRANGER, token_id, secret, csr)
    assert again.certificate_pem == first.certificate_pem
    assert "cause=reused" in await refusal(
        fleet, certificates.enrol(STRANGER, token_id, secret, request_der(p256_key()))
    )
    late = await invited(ops, "dora")
    fleet.clock.unix_ms += HOUR_MS
    assert "cause=expired operator=dora" in await refusal(
        fleet, certificates.enrol(STRANGER, *late, csr)
    )


async def test_a_hosts_token_makes_no_operator(fleet, ops, certificates):
    made = await ops.enrolment_tokens.create(actor(), "GRU", node_id="gru-9", ttl_s=0)
    detail = await refusal(
        fleet, certificates.enrol(STRANGER, *made.text.split(".")[2:], request_der(KEY))
    )
    assert "cause=other_purpose" in detail
    assert "gru-9" not in fleet.store.operators()


async def test_nobody_is_invited_to_a_coordinator_that_only_its_own_machine_can_reach(fleet):
    fleet.loopback_listeners = ("admin", "enrolment")
    ops = fleet.operations(None)
    with pytest.raises(Conflict, match="loopback only") as caught:
        await ops.operators.invite(actor(), "carl", "viewer")
    for key in ("admin.host", "admin.advertise", "enrolment.host", "--local"):
        assert key in caught.value.hint
    assert (await ops.operators.invite(actor(), "carl", "viewer", local=True)).name == "carl"


@pytest.mark.parametrize(
    ("name", "role", "ttl_s"),
    [("", "viewer", 0), ("Ana", "viewer", 0), ("a/b", "viewer", 0), ("carl", "root", 0),
     ("carl", "", 0), ("carl", "viewer", 90_000)],
)  # fmt: skip
async def test_what_is_no_name_role_or_life_is_refused(ops, name, role, ttl_s):
    with pytest.raises(InvalidRequest):
        await ops.operators.invite(actor(), name, role, ttl_s=ttl_s)


async def test_the_last_admin_can_be_neither_revoked_nor_demoted(fleet, ops):
    with pytest.raises(Conflict, match="last admin"):
        await ops.operators.revoke(actor(), "ana")
    with pytest.raises(Conflict, match="last admin"):
        await ops.operators.set_role(actor(), "ana", "operator")
    await ops.operators.set_role(actor(), "bo", "admin")
    await ops.operators.set_role(actor(), "ana", "viewer")
    assert fleet.store.operators()["ana"].role is Role.VIEWER
    assert fleet.operators_changed == ["bo", "ana"]


async def test_a_revocation_and_another_role_end_the_calls_in_progress(fleet, ops):
    await ops.operators.set_role(actor(), "bo", "operator")
    assert fleet.operators_changed == ["bo"]
    await ops.operators.set_role(actor(), "bo", "operator")
    assert fleet.operators_changed == ["bo"]
    await ops.operators.revoke(actor(), "bo")
    assert fleet.operators_changed == ["bo", "bo"]


async def test_names_of_operators_are_limited_and_a_revoked_one_can_be_used_again(ops, monkeypatch):
    monkeypatch.setattr("coordinator.operations.operators.MAX_OPERATORS", 2)
    with pytest.raises(InvalidRequest, match="in use"):
        await ops.operators.invite(actor(), "carl", "viewer")
    await ops.operators.revoke(actor(), "bo")
    assert (await ops.operators.invite(actor(), "bo", "viewer")).name == "bo"


async def test_a_renewal_is_for_the_own_name_and_key_only(fleet, ops):
    viewer = actor(Role.VIEWER, "bo")
    renewed = await ops.operators.renew(viewer, request_der(ANA_KEY))
    assert renewed.name == "bo"
    with pytest.raises(InvalidRequest, match="keeps the key"):
        await ops.operators.renew(viewer, request_der(p256_key()))
    await ops.operators.revoke(actor(), "bo")
    with pytest.raises(Forbidden):
        await ops.operators.renew(viewer, request_der(ANA_KEY))


async def test_no_listing_shows_a_secret_or_a_key(fleet, ops):
    invitation = await ops.operators.invite(actor(), "carl", "viewer")
    secret = invitation.text.rpartition(".")[2]
    assert secret not in repr(invitation) + repr(await ops.operators.list_all(actor()))
    assert secret not in str(await fleet.notes())
