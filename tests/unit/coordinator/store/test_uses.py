"""What keeps an object of the registry from being removed."""

from __future__ import annotations

from dataclasses import replace

from coordinator.core.rollout import Revision, Rollout, RolloutPhase
from coordinator.store.deploy_facts import DeployRecord
from coordinator.store.uses import uses_of
from protos.domain.resources import Adapter, Deployment, SlaTier

ROW = Deployment("support", "acme", "m@3", "a@3", 80, SlaTier.REALTIME, (), strict=False)


def revision(number: int, model: str, runtime: str = "") -> Revision:
    earlier = replace(ROW, model=model, adapter="", runtime=runtime, revision=number)
    return Revision(earlier, "operator/ana", number, "update")


def test_each_object_names_who_needs_it_and_each_deployment_once():
    rollout = Rollout(RolloutPhase.PREPARING, replace(ROW, model="m@4"), "operator/ana", "", 5)
    revisions = (revision(1, "m@1", "fast@1"), revision(2, "m@1"), revision(3, "m@3"))
    records = [DeployRecord("support", revisions, rollout)]
    assert uses_of([ROW], records, [Adapter("a@3", "m@3", 8, 1, b"", "acme")]) == {
        "m@3": ["deployment support", "adapter a@3"],
        "a@3": ["deployment support"],
        "m@4": ["the change of deployment support that is under way"],
        "m@1": ["deployment support, which may be rolled back to 2"],
        "fast@1": ["deployment support, which may be rolled back to 1"],
    }


def test_what_nothing_names_is_used_by_nothing():
    assert uses_of([], [DeployRecord("gone")], []) == {}
