"""What fits where, in words."""

from __future__ import annotations

import pytest

from coordinator.core.plan_input import (
    PlanNode,
    Rule,
    adapter_misfit,
    gigabytes,
    is_allowed,
    misfit,
    replica_key,
    runtime_misfit,
)
from protos.domain.hardware import UNKNOWN_HARDWARE, NodeHardware
from protos.domain.resources import Adapter, Hold, NodeIntent, Runtime
from tests.support.fleets import deployment
from tests.support.plans import BIG, FAR, GB, HARDWARE, MODELS, SMALL, host

LORA = Adapter("acme/lora@1", SMALL, 16, 9, b"")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("", "the node has not connected yet"),
        ("none", "the node has no engine"),
        ("external", "an engine of kind external cannot hold a managed model"),
        ("vllm", ""),
    ],
)
def test_an_engine_holds_models_of_its_kind(kind, says):
    assert misfit(kind, HARDWARE, MODELS[SMALL]) == says


def test_a_model_above_the_memory_does_not_fit_and_an_unknown_memory_takes_all():
    said = misfit("vllm", HARDWARE, MODELS[BIG])
    assert said == "its 16.00 GB of weights are more than the 8.00 GB that an engine there can take"
    assert misfit("vllm", UNKNOWN_HARDWARE, MODELS[BIG]) == ""
    assert misfit("external", HARDWARE, MODELS[FAR]) == ""


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, ""),
        ({"accelerators": ("cuda", "cpu")}, ""),
        ({"accelerators": ("rocm",)}, "is for rocm, not cuda"),
        ({"version_constraint": ">=0.10,<0.11"}, ""),
        ({"version_constraint": ">=0.32"}, "needs vllm >=0.32, the node has 0.10.2"),
        ({"version_constraint": "not a version"}, "needs vllm not a version"),
        ({"engine_kind": "sglang"}, "needs an engine of kind sglang"),
    ],
)
def test_a_runtime_fits_by_kind_accelerator_and_version(fields, says):
    said = runtime_misfit("vllm", HARDWARE, Runtime("acme/rt@1", **fields))
    assert (says in said) if says else said == ""


def test_what_a_node_does_not_tell_is_taken_to_fit_a_runtime():
    runtime = Runtime("acme/rt@1", version_constraint=">=9", accelerators=("rocm",))
    assert runtime_misfit("vllm", UNKNOWN_HARDWARE, runtime) == ""


def test_an_adapter_needs_an_engine_that_loads_such():
    assert adapter_misfit(HARDWARE, LORA) == ""
    assert adapter_misfit(UNKNOWN_HARDWARE, LORA) == "its engine loads no adapters"
    low = NodeHardware(max_adapters=1, max_adapter_rank=8)
    assert adapter_misfit(low, LORA).startswith("rank 16 of adapter acme/lora@1 is above the 8")


def test_pins_and_zones_say_where_a_deployment_may_be():
    asked = deployment(zones=("BR",))
    assert is_allowed(asked, None, "gru-1", "BR")
    assert not is_allowed(asked, None, "iad-1", "US")
    assert not is_allowed(asked, frozenset({"gru-2"}), "gru-1", "BR")
    assert is_allowed(deployment(), None, "iad-1", "US")


def test_a_node_counts_while_it_serves():
    assert host().counts
    assert host(intent=NodeIntent.CORDONED).counts
    assert not host(intent=NodeIntent.DRAINING).counts
    assert not host(alive=False).counts
    assert not host(retiring=True).counts


def test_hot_models_are_those_in_engines_not_adapters():
    holds = {SMALL: Hold.HOT, f"{SMALL}+acme/lora@1": Hold.HOT, BIG: Hold.DISK}
    assert PlanNode("vllm", NodeIntent.ACTIVE, holds).hot == (SMALL,)
    assert replica_key(SMALL) == SMALL
    assert replica_key(SMALL, "acme/lora@1") == f"{SMALL}+acme/lora@1"


def test_a_rule_covers_its_node_or_its_pop():
    assert Rule(SMALL, pop_id="GRU").covers("gru-1", "GRU")
    assert not Rule(SMALL, node_id="gru-2").covers("gru-1", "GRU")
    assert Rule(SMALL, node_id="gru-2").place == "node gru-2"


def test_sizes_are_in_words():
    assert [gigabytes(one) for one in (16 * GB, 269_000_000, 1_800_000)] == [
        "16.00 GB",
        "0.27 GB",
        "1.8 MB",
    ]
