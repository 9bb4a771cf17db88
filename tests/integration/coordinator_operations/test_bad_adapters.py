"""Adapters that are good but for one fault, made apart from the registry's own cases."""

from __future__ import annotations

from coordinator.core.operators import Role
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
