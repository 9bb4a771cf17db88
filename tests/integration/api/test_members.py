"""Sign-up, invitations, roles: who may become what."""

from __future__ import annotations

import pytest

from coordinator.core.members import INVITATION_LIFE_MS, SignUp
from tests.support.customer_api import running_api

ANA = {"account": "initech", "email": "ana@Example.ORG"}


async def sign_up(api, **changes):
    return await api.call("POST", "/v1/sign-up", {**ANA, **changes}, token=None)


async def invited(api, email: str = "") -> str:
    made = await api.operations.members.invite_to_sign_up(api.fleet.admin, email)
    return made.text


async def test_without_an_invitation_nobody_makes_an_account_where_one_is_needed(api):
    for text in ("", "efi-x", "efi-" + "0" * 16 + "-" + "0" * 64):
        refused = await sign_up(api, invitation=text)
        assert (refused.status, refused.body["error"]["code"]) == (404, "invitation_invalid")
    assert "initech" not in api.fleet.store.view().accounts


async def test_an_invitation_makes_one_account_once(api):
    text = await invited(api)
    made = await sign_up(api, invitation=text)
    assert made.status == 201
    assert (made.body["account"], made.body["role"]) == ("initech", "owner")
    account = api.fleet.store.view().accounts["initech"]
    assert not account.funded
    me = await api.call("GET", "/v1/me", token=made.body["token"])
    assert me.body["account"] == "initech"
    again = await sign_up(api, account="other", invitation=text)
    assert (again.status, again.body["error"]["code"]) == (404, "invitation_invalid")
    assert text not in str(dict(api.fleet.store.invitations()))


async def test_an_invitation_ends_after_a_day_and_is_of_its_address_alone(api):
    text = await invited(api, "ana@example.org")
    other = await sign_up(api, invitation=text, email="eve@example.org")
    assert (other.status, other.body["error"]["code"]) == (404, "invitation_invalid")
    api.fleet.clock.unix_ms += INVITATION_LIFE_MS
    late = await sign_up(api, invitation=text)
    assert (late.status, late.body["error"]["code"]) == (404, "invitation_invalid")


async def test_a_name_that_is_taken_or_reserved_leaves_the_invitation_good(api):
    text = await invited(api)
    assert (await sign_up(api, invitation=text, account="acme")).status == 409
    for name in ("admin", "edgeforge-eu"):
        refused = await sign_up(api, invitation=text, account=name)
        assert refused.status == 400
        assert "reserved" in refused.body["error"]["message"]
    assert (await sign_up(api, invitation=text)).status == 201


async def test_two_at_once_make_one_account_of_one_invitation(api):
    import asyncio

    text = await invited(api)
    both = await asyncio.gather(
        sign_up(api, invitation=text), sign_up(api, invitation=text, account="umbrella")
    )
    assert sorted(one.status for one in both) == [201, 404]


async def test_a_refused_invitation_does_not_tell_which_names_are_taken(api):
    taken = await sign_up(api, account="acme", invitation="efi-x")
    free = await sign_up(api, account="free", invitation="efi-x")
    assert (taken.status, taken.body) == (free.status, free.body)


async def test_sign_up_is_closed_unless_it_is_opened(tmp_path):
    async with running_api(tmp_path, SignUp.CLOSED) as api:
        refused = await sign_up(api, invitation=await invited(api))
        assert (refused.status, refused.body["error"]["code"]) == (403, "sign_up_closed")


async def test_an_account_of_open_registration_spends_only_what_it_has_paid(tmp_path):
    async with running_api(tmp_path, SignUp.OPEN) as api:
        made = await sign_up(api)
        assert made.status == 201
        assert api.fleet.store.view().accounts["initech"].funded
        status = await api.call("GET", "/v1/payments", token=made.body["token"])
        assert (status.body["prepaid"], status.body["remaining_nano_usd"]) == (True, 0)


async def test_open_registration_is_limited_by_source_and_by_all(tmp_path):
    from coordinator.api.customer.access import Rates

    async with running_api(tmp_path, SignUp.OPEN, rates=Rates()) as api:
        statuses = [(await sign_up(api, account=f"bulk{one}")).status for one in range(11)]
        assert statuses == [201] * 10 + [429]


async def test_a_member_joins_by_an_invitation_with_its_role_and_no_other(api):
    invited = await api.call("POST", "/v1/invitations", {"email": "bo@x.org", "role": "viewer"})
    assert invited.status == 201
    text = invited.body["invitation"]
    listed = await api.call("GET", "/v1/invitations")
    assert [one["email"] for one in listed.body["items"]] == ["bo@x.org"]
    body = {"invitation": text, "email": "bo@x.org"}
    joined = await api.call("POST", "/v1/join", body, token=None)
    assert (joined.status, joined.body["role"]) == (201, "viewer")
    assert (await api.call("POST", "/v1/keys", {}, token=joined.body["token"])).status == 403
    assert (await api.call("POST", "/v1/join", body, token=None)).status == 404
    wrong = await sign_up(api, invitation=text)
    assert wrong.status == 404


async def test_an_invitation_to_sign_up_joins_no_account_and_the_other_way_round(api):
    text = await invited(api)
    body = {"invitation": text, "email": "eve@x.org"}
    assert (await api.call("POST", "/v1/join", body, token=None)).status == 404
    made = await api.call("POST", "/v1/invitations", {"email": "eve@x.org", "role": "owner"})
    refused = await sign_up(api, invitation=made.body["invitation"], email="eve@x.org")
    assert (refused.status, refused.body["error"]["code"]) == (404, "invitation_invalid")


@pytest.mark.parametrize("role", ["admin", "developer", "billing", "viewer"])
async def test_nobody_gives_or_takes_more_than_the_own_role(api, role):
    token = api.token(role)
    owner = await api.call("PATCH", "/v1/members/m-10", {"role": "viewer"}, token=token)
    raised = await api.call("PATCH", "/v1/members/m-14", {"role": "owner"}, token=token)
    invited = await api.call(
        "POST", "/v1/invitations", {"email": "eve@x.org", "role": "owner"}, token=token
    )
    removed = await api.call("DELETE", "/v1/members/m-10", token=token)
    assert {one.status for one in (owner, raised, invited, removed)} == {403}


async def test_the_last_owner_stays(api):
    assert (await api.call("DELETE", "/v1/members/m-10")).status == 409
    assert (await api.call("PATCH", "/v1/members/m-10", {"role": "viewer"})).status == 409
    assert (await api.call("PATCH", "/v1/members/m-11", {"role": "owner"})).status == 200
    assert (await api.call("DELETE", "/v1/members/m-10")).status == 204


async def test_a_member_has_only_its_own_tokens(api):
    owner = await api.call("GET", "/v1/tokens")
    others = owner.body["items"][0]["id"]
    viewer = api.token("viewer")
    assert (await api.call("DELETE", f"/v1/tokens/{others}", token=viewer)).status == 404
    assert (await api.call("DELETE", f"/v1/tokens/{others}")).status == 204


async def test_lists_are_in_pages_that_lead_to_the_end(api):
    for number in range(5):
        body = {"email": f"p{number}@x.org", "role": "viewer"}
        await api.call("POST", "/v1/invitations", body)
    seen, cursor = [], ""
    while True:
        page = await api.call("GET", f"/v1/invitations?limit=2&cursor={cursor}")
        seen += [one["email"] for one in page.body["items"]]
        cursor = page.body["next"]
        if not cursor:
            break
    assert sorted(seen) == [f"p{number}@x.org" for number in range(5)]
