"""What no node can serve is said when it is deployed, with numbers and a way out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.deploy_checks import check_adapter, check_fits, check_owner
from protos.domain.errors import InvalidRequest
from protos.domain.resources import Adapter, NodeIntent, Runtime
from tests.support.fleets import deployment
from tests.support.plans import BIG, GB, HARDWARE, MODELS, OTHER, SMALL, host

LORA = Adapter("acme/lora@1", SMALL, 16, 9, b"")
NODES = {f"gru-{number}": host() for number in range(1, 9)}


def fits(nodes=NODES, *, model=SMALL, adapter=None, runtime=None, zones=(), pins=None):
    asked = deployment(model=model, zones=zones)
    check_fits(nodes, asked, pins, MODELS[model], adapter, runtime)


def refusal(**fields) -> str:
    with pytest.raises(InvalidRequest) as refused:
        fits(**fields)
    assert refused.value.hint
    return f"{refused.value.message} | {refused.value.hint}"


def test_what_one_node_can_serve_is_accepted():
    fits()
    fits(
        NODES | {"big-1": host(hardware=replace(HARDWARE, weights_memory_bytes=80 * GB))}, model=BIG
    )
    fits(adapter=LORA, runtime=Runtime("acme/rt@1", accelerators=("cuda",)))


def test_a_node_that_has_not_connected_may_fit():
    fits({"gru-1": host(engine_kind="")}, model=BIG)


def test_a_model_above_every_memory_is_refused_with_the_largest_ones():
    said = refusal(model=BIG)
    assert "16.00 GB of weights (16000000000 bytes)" in said
    assert "gru-1 8.00 GB, gru-2 8.00 GB" in said
    assert "and 3 smaller ones" in said


def test_customers_are_told_sizes_counts_and_zones_and_no_node():
    nodes = NODES | {
        "jp-1": host(zone="JP", hardware=replace(HARDWARE, weights_memory_bytes=9 * GB))
    }
    with pytest.raises(InvalidRequest) as refused:
        check_fits(nodes, deployment(model=BIG), None, MODELS[BIG], None, None, names_nodes=False)
    assert "9.00 GB at 1 node in JP; 8.00 GB at 8 nodes in BR" in refused.value.message
    said = f"{refused.value.message} {refused.value.hint}"
    assert not [node for node in nodes if node in said]
    for other in (
        {"nodes": nodes, "zones": ("DE",)},
        {"nodes": {"a-1": host(engine_kind="external")}},
        {"nodes": nodes, "runtime": Runtime("a/r@1", accelerators=("rocm",))},
        {"nodes": nodes, "adapter": replace(LORA, rank=64)},
    ):
        assert not [node for node in other["nodes"] if node in refusal(**other)]


def test_pins_narrow_what_counts():
    nodes = NODES | {"big-1": host(hardware=replace(HARDWARE, weights_memory_bytes=80 * GB))}
    assert "gru-1 8.00 GB" in refusal(nodes=nodes, model=BIG, pins=frozenset({"gru-1"}))


@pytest.mark.parametrize(
    ("nodes", "fields", "says"),
    [
        ({}, {}, "no node has an engine of kind 'vllm' yet"),
        (
            NODES,
            {"zones": ("JP",)},
            "none is in JP | nodes with such an engine are in BR at 8 nodes",
        ),
        ({"a-1": host(engine_kind="external")}, {}, "the nodes that may serve it have external"),
        ({"a-1": host(intent=NodeIntent.RETIRED)}, {}, "no node may serve it"),
        (
            NODES,
            {"runtime": Runtime("a/r@1", accelerators=("rocm",))},
            "there is cuda with vllm 0.10.2 at 8 nodes",
        ),
        (NODES, {"runtime": Runtime("a/r@1", version_constraint=">=9")}, "needs vllm >=9"),
        (NODES, {"adapter": replace(LORA, rank=64)}, "rank 64, engines here take at most 32"),
        (
            {"a-1": host(hardware=replace(HARDWARE, max_adapters=0))},
            {"adapter": LORA},
            "no node that takes acme/small@1 loads adapters",
        ),
    ],
)
def test_each_refusal_says_what_there_is(nodes, fields, says):
    assert says in refusal(nodes=nodes, **fields)


def test_an_adapter_is_for_its_base():
    check_adapter(MODELS[SMALL], LORA)
    check_adapter(MODELS[OTHER], None)
    with pytest.raises(InvalidRequest) as refused:
        check_adapter(MODELS[OTHER], LORA)
    assert "edgeforge adapter port acme/lora@1 --to acme/other@1" in refused.value.hint


def test_what_another_account_owns_is_not_deployed():
    check_owner(deployment(), MODELS[SMALL], None, replace(LORA, account_id="acme"))
    with pytest.raises(InvalidRequest, match="belongs to another account"):
        check_owner(deployment(), MODELS[SMALL], replace(LORA, account_id="globex"))
