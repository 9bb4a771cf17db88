"""One node's part of a plan has bounds."""

from __future__ import annotations

from coordinator.core.plan_draft import MAX_DISK_UNKNOWN_QUOTA, NodeDraft
from protos.domain.hardware import NodeHardware
from protos.domain.resources import Adapter, Hold, NodeIntent
from tests.support.plans import GB, MODELS, OTHER, SMALL, TWIN, host, registered


def test_an_engine_is_taken_once_and_a_model_is_only_held_closer():
    draft = NodeDraft("gru-1", host())
    draft.put(MODELS[SMALL], Hold.DISK, "first")
    draft.put(MODELS[SMALL], Hold.HOT, "then")
    draft.put(MODELS[SMALL], Hold.ON_DEMAND, "never")
    assert draft.models[SMALL].hold is Hold.HOT
    assert (draft.hot, draft.free_engines) == (1, 0)
    assert draft.disk_bytes == MODELS[SMALL].weights_bytes
    assert not draft.room_for_hot(MODELS[OTHER])


def test_what_swaps_can_be_loaded_beside_a_hot_model():
    draft = NodeDraft("gru-1", host())
    draft.put(MODELS[SMALL], Hold.HOT, "asked for")
    assert draft.can_load(MODELS[TWIN])
    assert not draft.can_load(MODELS[OTHER])
    assert NodeDraft("gru-1", host()).can_load(MODELS[OTHER])


def test_the_disk_is_not_given_away_whole():
    draft = NodeDraft("gru-1", host(disk_quota_bytes=GB))
    assert draft.has_disk_for(GB * 8 // 10)
    assert not draft.has_disk_for(GB * 9 // 10)
    assert not draft.room_for_hot(registered("acme/l@1", size_bytes=2 * GB))


def test_without_a_known_quota_few_models_wait_on_disk():
    draft = NodeDraft("gru-1", host())
    for number in range(MAX_DISK_UNKNOWN_QUOTA):
        assert draft.has_disk_for(1)
        draft.put(registered(f"acme/m{number}@1"), Hold.DISK, "")
    assert not draft.has_disk_for(1)


def test_a_node_that_goes_keeps_and_gets_nothing_new():
    draft = NodeDraft("gru-1", host(intent=NodeIntent.CORDONED, holds={SMALL: Hold.HOT}))
    assert draft.may_get(SMALL)
    assert not draft.may_get(OTHER)
    gone = NodeDraft("gru-1", host(intent=NodeIntent.RETIRED, holds={SMALL: Hold.HOT}))
    assert not gone.may_get(SMALL)


def test_its_holds_name_adapters_beside_their_base():
    draft = NodeDraft("gru-1", host(hardware=NodeHardware(max_adapters=1)))
    draft.put(MODELS[SMALL], Hold.HOT, "")
    draft.put_adapter(Adapter("acme/fr@1", SMALL, 8, 1, b""), Hold.ON_DEMAND, "")
    draft.put_adapter(Adapter("acme/fr@1", SMALL, 8, 1, b""), Hold.HOT, "")
    assert draft.holds() == {SMALL: Hold.HOT, f"{SMALL}+acme/fr@1": Hold.HOT}
