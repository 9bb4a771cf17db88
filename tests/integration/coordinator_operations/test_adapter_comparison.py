"""A ported adapter's answers against those of the adapter that it was ported from."""

from __future__ import annotations

import pytest

from coordinator.core.answer_comparison import PROMPTS
from protos.domain.errors import Conflict, InvalidRequest, NoReplica
from protos.domain.object_names import ObjectKind
from tests.support.operations import NODE, actor
from tests.support.registry_cases import adapter_files, base_files
from tests.support.registry_doors import publish, serve_adapter

ADAPTER = ObjectKind.ADAPTER


@pytest.fixture
async def ported(fleet, ops):
    for name, seed in (("acme/base@1", "one"), ("acme/base@2", "two")):
        await publish(ops, actor(), ObjectKind.MODEL, name, base_files(seed))
    await publish(ops, actor(), ADAPTER, "acme/fr@1", adapter_files())
    return await ops.registry.port(actor(), "acme/fr@1", "acme/base@2", "acme/fr@2")


async def test_the_outcome_is_kept_with_the_version(fleet, ops, ported):
    assert ported.publication.comparison == "answers not compared"
    await serve_adapter(fleet, "acme/fr@1", "acme/base@1", text="one two three")
    await serve_adapter(fleet, "acme/fr@2", "acme/base@2", text="one two four")
    says = (
        "0 of 6 answers are those of acme/fr@1;"
        " the other 6 begin with 2, 2, 2, 2, 2, 2 words in common"
    )
    found = await ops.registry.compare(actor(), "acme/fr@2")
    assert found.publication.comparison == says
    assert (await ops.registry.show(actor(), "acme/fr", ADAPTER)).publication.comparison == says
    assert (await fleet.notes())[-1] == (
        "operator/ana",
        "adapter.compare",
        "adapter/acme/fr@2",
        says,
    )


async def test_one_node_that_serves_both_is_asked_before_two(fleet, ops, ported):
    await serve_adapter(fleet, "acme/fr@1", "acme/base@1", text="one")
    await serve_adapter(fleet, "acme/fr@1", "acme/base@1", text="one", node_id="iad-1")
    await serve_adapter(fleet, "acme/fr@2", "acme/base@2", text="one", node_id="iad-1")
    found = await ops.registry.compare(actor(), "acme/fr@2", "acme/fr@1")
    assert found.publication.comparison == "6 of 6 answers are those of acme/fr@1"
    assert fleet.agents.asked == ["iad-1"] * 2 * len(PROMPTS)


async def test_without_engines_nothing_is_compared(fleet, ops, ported):
    await serve_adapter(fleet, "acme/fr@1", "acme/base@1", text="one")
    with pytest.raises(Conflict, match="no engine serves acme/fr@2 now"):
        await ops.registry.compare(actor(), "acme/fr@2")
    assert fleet.agents.asked == []


async def test_an_engine_that_does_not_answer_leaves_the_version_as_it_was(fleet, ops, ported):
    for name, base in (("acme/fr@1", "acme/base@1"), ("acme/fr@2", "acme/base@2")):
        await serve_adapter(fleet, name, base, text="one")
    del fleet.agents.canaries["acme/fr@2"]
    with pytest.raises(NoReplica):
        await ops.registry.compare(actor(), "acme/fr@2")
    shown = await ops.registry.show(actor(), "acme/fr@2", ADAPTER)
    assert shown.publication.comparison == "answers not compared"
    assert NODE in fleet.agents.asked


async def test_an_adapter_that_was_not_ported_needs_another_to_be_compared_with(fleet, ops, ported):
    with pytest.raises(InvalidRequest, match="was not ported"):
        await ops.registry.compare(actor(), "acme/fr@1")
