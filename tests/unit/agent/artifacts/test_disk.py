"""The objects of a disk: what leaves it, what stays, what a restart finds."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from agent.artifacts.disk import ModelDisk
from protos.domain.errors import StoreUnavailable
from protos.domain.resources import ModelFile
from tests.support.pulled_objects import file_of

NOW = 1_800_000_000_000.0


def disk_in(folder: Path, quota_bytes: int = 1_000) -> ModelDisk:
    made = ModelDisk(
        folder / "models",
        folder / "store" / "files",
        folder / "store" / "partial",
        quota_bytes,
        lambda: NOW,
    )
    made.load()
    return made


def add(disk: ModelDisk, name: str, *sizes: int, age_s: float = 0.0) -> tuple[Path, ModelFile]:
    files = tuple(file_of(f"{n}.json", bytes([size % 251]) * size) for n, size in enumerate(sizes))
    data = {
        file.sha256: bytes([size % 251]) * size for file, size in zip(files, sizes, strict=True)
    }
    path = disk.objects / name
    disk.make_room(name, path, {file.sha256: file.size_bytes for file in files})
    for digest, content in data.items():
        (disk.files / digest.hex()).write_bytes(content)
    disk.publish(path, files)
    os.utime(path, (NOW / 1_000 - age_s,) * 2)
    disk._by_path[path].used_unix_ms = NOW - age_s * 1_000
    return path, files[0]


def test_the_longest_unused_object_leaves_with_its_files(tmp_path: Path) -> None:
    disk = disk_in(tmp_path)
    old, old_file = add(disk, "old", 400, age_s=50)
    new, _ = add(disk, "new", 401, age_s=10)
    add(disk, "third", 402)
    assert not disk.has(old)
    assert not old.exists()
    assert not (disk.files / old_file.sha256.hex()).exists()
    assert disk.has(new)


def test_a_restart_finds_the_objects_and_when_they_were_used(tmp_path: Path) -> None:
    disk = disk_in(tmp_path)
    old, _ = add(disk, "old", 400, age_s=50)
    new, _ = add(disk, "new", 401, age_s=10)
    again = disk_in(tmp_path)
    assert again.state("").used_bytes == 801
    add(again, "third", 402)
    assert not again.has(old)
    assert again.has(new)


def test_what_an_engine_holds_and_what_is_pinned_never_leave(tmp_path: Path) -> None:
    disk = disk_in(tmp_path)
    held, _ = add(disk, "held", 400, age_s=50)
    pinned, _ = add(disk, "pinned", 401, age_s=40)
    disk.hold(held)
    disk.hold(held)
    disk.release(held)
    disk.pin(frozenset({pinned}))
    assert disk.state("").pinned_bytes == 801
    with pytest.raises(StoreUnavailable, match="needs 402 bytes of disk and 203 are missing"):
        add(disk, "third", 402)
    disk.release(held)
    disk._by_path[held].used_unix_ms = 0.0
    add(disk, "third", 402)
    assert not disk.has(held)


def test_what_is_being_pulled_counts_and_never_leaves(tmp_path: Path) -> None:
    disk = disk_in(tmp_path)
    disk.make_room("a", disk.objects / "a", {b"a" * 32: 600})
    with pytest.raises(StoreUnavailable):
        disk.make_room("b", disk.objects / "b", {b"b" * 32: 600})
    disk.forget_incoming(disk.objects / "a")
    disk.make_room("b", disk.objects / "b", {b"b" * 32: 600})


def test_a_file_that_another_object_needs_stays(tmp_path: Path) -> None:
    disk = disk_in(tmp_path)
    _, shared = add(disk, "old", 300, 200, age_s=50)
    kept, _ = add(disk, "kept", 300, age_s=1)
    add(disk, "third", 601)
    assert disk.has(kept)
    assert (kept / "0.json").read_bytes() == (disk.files / shared.sha256.hex()).read_bytes()


def test_what_an_ended_pull_left_goes_when_it_is_old_or_in_the_way(tmp_path: Path) -> None:
    disk = disk_in(tmp_path)
    for name, age_s in (("young", 3_600), ("old", 4 * 86_400)):
        path = disk.partial / name
        path.write_bytes(b"x")
        os.utime(path, (NOW / 1_000 - age_s,) * 2)
    disk.make_room("a", disk.objects / "a", {b"a" * 32: 600})
    assert [one.name for one in disk.partial.iterdir()] == ["young"]
    with pytest.raises(StoreUnavailable):
        disk.make_room("b", disk.objects / "b", {b"b" * 32: 600})
    assert list(disk.partial.iterdir()) == []


def test_a_kill_while_an_object_is_published_or_removed_leaves_no_half_of_one(
    tmp_path: Path,
) -> None:
    disk = disk_in(tmp_path)
    for name in ("m-1.partial", "m-2.gone"):
        (disk.objects / name).mkdir()
        (disk.objects / name / "config.json").write_bytes(b"{}")
    again = disk_in(tmp_path)
    assert list(again.objects.iterdir()) == []
    assert again.state("").used_bytes == 0


def test_without_a_quota_nine_tenths_of_what_there_is_may_be_used(tmp_path: Path) -> None:
    state = disk_in(tmp_path, 0).state("why")
    free_bytes = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert 0.8 * free_bytes < state.quota_bytes < free_bytes
    assert state.trouble == "why"


def test_a_hold_taken_before_the_object_came_is_kept_when_it_is_there(tmp_path: Path) -> None:
    disk = disk_in(tmp_path)
    loaded = disk.objects / "loaded"
    disk.hold(loaded)  # a request's load, which pulls it
    add(disk, "loaded", 400, age_s=50)
    disk.hold(loaded)  # the engine that reads it
    disk.release(loaded)  # the load has ended
    with pytest.raises(StoreUnavailable, match="203 are missing"):
        add(disk, "third", 803)
    disk.release(loaded)
    disk._by_path[loaded].used_unix_ms = 0.0
    add(disk, "third", 803)
    assert not disk.has(loaded)


def test_an_object_whose_folder_somebody_removed_is_here_no_longer(tmp_path: Path) -> None:
    disk = disk_in(tmp_path)
    removed, _ = add(disk, "removed", 400, age_s=50)
    evicted, _ = add(disk, "evicted", 401, age_s=40)
    shutil.rmtree(removed)
    shutil.rmtree(evicted)
    assert not disk.used(removed)
    assert not disk.has(removed)
    add(disk, "third", 800)
    assert not disk.has(evicted)


def test_what_is_no_file_in_the_folders_of_files_and_of_pulls_is_left_alone(tmp_path: Path) -> None:
    disk = disk_in(tmp_path)
    (disk.partial / "lost+found").mkdir()
    (disk.files / "link").symlink_to(tmp_path)
    for one in (disk.partial / "lost+found", disk.files):
        os.utime(one, (0, 0))
    with pytest.raises(StoreUnavailable):
        disk.make_room("b", disk.objects / "b", {b"b" * 32: 2_000})
    assert disk_in(tmp_path).state("").used_bytes == 0
    assert (disk.partial / "lost+found").is_dir()


def test_who_asks_does_not_wait_for_what_is_being_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = disk_in(tmp_path)
    old, _ = add(disk, "old", 600)
    deleting, go_on = threading.Event(), threading.Event()

    def slow(_folder: Path, **_how: bool) -> None:
        deleting.set()
        assert go_on.wait(10)

    monkeypatch.setattr(shutil, "rmtree", slow)
    thread = threading.Thread(
        target=disk.make_room, args=("new", disk.objects / "new", {b"n" * 32: 600})
    )
    thread.start()
    try:
        assert deleting.wait(10)
        assert not disk.has(old)
        disk.hold(old)
        disk.release(old)
        assert disk.state("").used_bytes == 600
        assert not go_on.is_set()
    finally:
        go_on.set()
        thread.join()
