"""Tracked repositories: from the commit that was seen to the deployment that serves it."""

from __future__ import annotations

import pytest

from coordinator.core.adoption import HOUR_MS, Promise, ReleaseState
from coordinator.hub.adoption_watch import AdoptionWatch
from coordinator.operations.agents import CanaryResult
from coordinator.store import deployments, replicas
from coordinator.store.store import Store
from protos.domain.errors import Conflict, EngineFailed, InvalidRequest, LinkDown, NotFound
from tests.support.operations import NODE, actor
from tests.support.stores import deployment, replica
from tests.support.upstream import COMMIT

UPSTREAM = "hf://org/repo@main"
NAME = f"acme/up@{COMMIT[:12]}"


async def tracked(ops):
    return await ops.adoption.track(actor(), "hf://org/repo", name="acme/up")


def newest(shown):
    return shown.releases[0]


async def serve(fleet) -> None:
    """Have a node report a ready replica of the release, and a deployment name it."""
    await fleet.store.write(replicas.report([replica(NODE, NAME)], []))


async def test_a_release_goes_from_seen_to_available(fleet, ops):
    shown = await tracked(ops)
    assert (newest(shown).state, newest(shown).promise) == (ReleaseState.SEEN, Promise.OPEN)
    shown = await ops.adoption.advance(actor(), UPSTREAM)
    assert newest(shown).state is ReleaseState.IMPORTED
    assert newest(shown).release.error == f"no engine serves {NAME} yet: deploy it"
    assert fleet.store.publications()[NAME].source == f"hf://org/repo@{COMMIT}"
    await serve(fleet)
    fleet.agents.canaries[NAME] = CanaryResult("a b", 32, 41.5, 18.25)
    shown = await ops.adoption.advance(actor(), UPSTREAM)
    assert newest(shown).state is ReleaseState.QUALIFIED
    assert (newest(shown).release.tokens_per_s, newest(shown).release.first_token_ms) == (
        18.25,
        41.5,
    )
    assert fleet.agents.asked == [NODE]
    await fleet.store.write(deployments.put(deployment("up", model=NAME), [NODE], create_only=True))
    fleet.clock.unix_ms += 5 * HOUR_MS
    shown = await ops.adoption.advance(actor(), UPSTREAM)
    assert (newest(shown).state, newest(shown).promise) == (ReleaseState.AVAILABLE, Promise.KEPT)
    assert await ops.adoption.advance(actor(), UPSTREAM) == shown
    assert fleet.upstream.fetches == [f"hf://org/repo@{COMMIT}"]


async def test_a_release_is_not_qualified_by_an_engine_that_does_not_answer(fleet, ops):
    await tracked(ops)
    await ops.adoption.advance(actor(), UPSTREAM)
    await serve(fleet)
    fleet.agents.canaries[NAME] = EngineFailed("the engine answered without a token")
    shown = await ops.adoption.advance(actor(), UPSTREAM)
    assert newest(shown).state is ReleaseState.IMPORTED
    assert "without a token" in newest(shown).release.error


async def test_an_import_that_is_refused_is_told_and_tried_again_later(fleet, ops):
    fleet.upstream.files = {"config.json": b"{}", "model.safetensors": b"PK\x03\x04" + bytes(60)}
    await tracked(ops)
    shown = await ops.adoption.advance(actor(), UPSTREAM)
    assert newest(shown).state is ReleaseState.SEEN
    assert newest(shown).release.failures == 1
    assert newest(shown).release.error
    await ops.adoption.advance(actor(), UPSTREAM)
    assert len(fleet.upstream.fetches) == 1
    fleet.clock.unix_ms += HOUR_MS
    await ops.adoption.advance(actor(), UPSTREAM)
    assert len(fleet.upstream.fetches) == 2


async def test_a_promise_that_was_missed_is_told(fleet, ops):
    fleet.upstream.error = None
    await tracked(ops)
    fleet.clock.unix_ms += 73 * HOUR_MS
    (shown,) = [one for one in await ops.adoption.list_all(actor()) if one.track.name == "acme/up"]
    assert newest(shown).promise is Promise.MISSED


async def test_the_watch_looks_at_every_track_though_one_is_unreachable(fleet, ops):
    await tracked(ops)
    fleet.upstream.error = LinkDown("no answer")
    await AdoptionWatch(ops, poll_s=60).look_at_all()
    assert {one.error for one in fleet.store.tracks().values()} == {"no answer"}
    fleet.upstream.error = None
    fleet.upstream.commit = "d" * 40
    await AdoptionWatch(ops, poll_s=60).look_at_all()
    commits = {one.releases[0].commit for one in fleet.store.tracks().values()}
    assert commits == {"d" * 40}


async def test_tracks_are_there_after_a_restart(fleet, ops, tmp_path):
    await tracked(ops)
    await ops.adoption.advance(actor(), UPSTREAM)
    before = dict(fleet.store.tracks())
    await fleet.store.close()
    store = await Store.open(tmp_path / "coordinator.db", now_unix_ms=fleet.clock)
    try:
        assert dict(store.tracks()) == before
    finally:
        await store.close()


async def test_what_cannot_be_tracked(fleet, ops):
    await tracked(ops)
    for arguments, error in (
        (("hf://org/repo", "acme/other", ""), Conflict),
        (("http://org/repo", "acme/x", ""), InvalidRequest),
        (("hf://org/x", "acme/x@1", ""), InvalidRequest),
        (("hf://org/x", "globex/x", "acme"), InvalidRequest),
        (("hf://org/x", "nobody/x", "nobody"), NotFound),
    ):
        upstream, name, account_id = arguments
        with pytest.raises(error):
            await ops.adoption.track(actor(), upstream, name=name, account_id=account_id)
    with pytest.raises(NotFound):
        await ops.adoption.untrack(actor(), "hf://org/none")
    fleet.upstream.error = LinkDown("no answer")
    with pytest.raises(LinkDown):
        await ops.adoption.track(actor(), "hf://org/y", name="acme/y")


async def test_a_name_without_choice_follows_from_upstream(ops):
    shown = await ops.adoption.track(actor(), "hf://Org-X/Repo-1B")
    assert shown.track.name == "org-x/Repo-1B"
