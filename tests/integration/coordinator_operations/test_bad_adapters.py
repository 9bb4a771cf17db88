"""Adapters that are good but for one fault, made apart from the registry's own cases."""

from __future__ import annotations

import pytest

from coordinator.core.operators import Role
from coordinator.operations import weights
from coordinator.operations.operations import Operations
from protos.domain.errors import InvalidRequest
from protos.domain.object_names import ObjectKind
from tests.support.lora_files import BAD_ADAPTERS, EVERY_PROJECTION, adapter_files, base_files
from tests.support.operations import actor
from tests.support.registry_doors import BASE, publish


async def test_every_adapter_with_one_fault_is_refused_and_good_ones_are_taken(
    ops: Operations,
) -> None:
    who = actor(Role.ADMIN)
    await publish(ops, who, ObjectKind.MODEL, BASE, base_files())
    taken = []
    for number, (fault, make) in enumerate(BAD_ADAPTERS.items()):
        try:
            await publish(ops, who, ObjectKind.ADAPTER, f"acme/bad-{number}@1", make())
        except InvalidRequest:
            continue
        taken.append(fault)
    assert taken == []
    good = {"small": adapter_files(), "wide": adapter_files(rank=16, modules=EVERY_PROJECTION)}
    for name, files in good.items():
        await publish(ops, who, ObjectKind.ADAPTER, f"acme/{name}@1", files)


async def test_a_model_of_more_tensors_than_memory_is_meant_for_is_refused(
    ops: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MAX_MODEL_TENSORS", 5)
    with pytest.raises(InvalidRequest, match="more than 5 tensors"):
        await publish(ops, actor(Role.ADMIN), ObjectKind.MODEL, BASE, base_files())


@pytest.mark.parametrize("end", [b"\xff\xff\xff\xff", b"\0\0\x80\x7f"])
async def test_an_adapter_with_values_that_are_not_finite_is_refused(
    ops: Operations, end: bytes
) -> None:
    who = actor(Role.ADMIN)
    await publish(ops, who, ObjectKind.MODEL, BASE, base_files())
    files = adapter_files()
    files["adapter_model.safetensors"] = files["adapter_model.safetensors"][:-4] + end
    with pytest.raises(InvalidRequest, match="not finite"):
        await publish(ops, who, ObjectKind.ADAPTER, "acme/odd@1", files)
