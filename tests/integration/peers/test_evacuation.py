"""What may not be in a zone any more leaves the disk there, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.artifacts.disk import ModelDisk
from agent.artifacts.evacuation import Evacuation
from agent.artifacts.orders import folder_of, name_of
from protos.domain.manifest import manifest_sha256
from protos.domain.resources import DesiredReplica, ModelSource
from tests.support.fleets import MODEL, deployment, model, node, pop, view
from tests.support.pulled_objects import file_of
from tests.support.waiting import wait_until_async

BODY = b"weights of acme"
FILE = file_of("model.safetensors", BODY)
HELD = DesiredReplica(MODEL, ModelSource.MANAGED, (FILE,), 8_192)


@pytest.fixture
def disk(tmp_path: Path) -> ModelDisk:
    made = ModelDisk(
        tmp_path / "models", tmp_path / "files", tmp_path / "partial", 0, lambda: 1_800e9
    )
    made.load()
    return made


def table(*zones: str):
    row = replace(model(), manifest_sha256=manifest_sha256((FILE,)))
    return view(pop("IAD"), node("iad-1", "IAD"), row, deployment(zones=zones))


def publish(disk: ModelDisk) -> Path:
    path = disk.objects / folder_of(name_of(HELD), manifest_sha256(HELD.files))
    (disk.files / FILE.sha256.hex()).write_bytes(BODY)
    disk.publish(path, HELD.files)
    return path


def bytes_left(disk: ModelDisk) -> list[Path]:
    return [
        one
        for one in disk.objects.parent.rglob("*")
        if one.is_file() and BODY[:8] in one.read_bytes()
    ]


async def look(evacuation: Evacuation, *zones: str, ordered: tuple[str, ...] = ()) -> None:
    evacuation.look(table(*zones), "iad-1", ordered)
    await settled(evacuation)


async def settled(evacuation: Evacuation) -> None:
    await wait_until_async(lambda: not evacuation._deleting, 5.0, "the deletion ends")


async def test_weights_leave_a_zone_that_their_deployments_were_narrowed_out_of(
    disk: ModelDisk,
) -> None:
    path = publish(disk)
    evacuation = Evacuation(disk)
    evacuation.dropped([HELD])
    await look(evacuation, "BR")
    assert not disk.has(path)
    assert not bytes_left(disk)


async def test_what_an_earlier_run_left_is_found_by_its_row(disk: ModelDisk) -> None:
    publish(disk)
    await look(Evacuation(disk), "BR")
    assert not bytes_left(disk)


async def test_what_a_pull_had_brought_leaves_with_it(disk: ModelDisk) -> None:
    for suffix in ("", ".bits"):
        (disk.partial / (FILE.sha256.hex() + suffix)).write_bytes(BODY)
    evacuation = Evacuation(disk)
    evacuation.dropped([HELD])
    await look(evacuation, "BR")
    assert not bytes_left(disk)


@pytest.mark.parametrize("zones", [(), ("US",), ("BR", "US")])
async def test_what_may_be_here_stays_though_it_is_ordered_no_more(
    disk: ModelDisk, zones: tuple[str, ...]
) -> None:
    path = publish(disk)
    evacuation = Evacuation(disk)
    evacuation.dropped([HELD])
    await look(evacuation, *zones)
    assert disk.has(path)


async def test_what_an_engine_uses_leaves_when_it_is_released(disk: ModelDisk) -> None:
    path = publish(disk)
    disk.hold(path)
    evacuation = Evacuation(disk)
    await look(evacuation, "BR")
    assert disk.has(path)
    disk.release(path)
    evacuation.again()
    await settled(evacuation)
    assert not bytes_left(disk)


async def test_what_was_allowed_again_meanwhile_stays(disk: ModelDisk) -> None:
    path = publish(disk)
    disk.hold(path)
    evacuation = Evacuation(disk)
    await look(evacuation, "BR")
    disk.release(path)
    await look(evacuation, "US")
    assert disk.has(path)


async def test_a_file_that_another_object_has_stays(disk: ModelDisk) -> None:
    publish(disk)
    other = disk.objects / "other-0011223344556677"
    disk.publish(other, HELD.files)
    evacuation = Evacuation(disk)
    evacuation.dropped([HELD])
    await look(evacuation, "BR")
    assert (other / FILE.path).read_bytes() == BODY
    assert (disk.files / FILE.sha256.hex()).exists()
