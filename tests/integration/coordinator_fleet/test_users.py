"""Commands run as root serve the service's user; what that user may not use is one message."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from protos.host.ownership import require_usable, user_name
from tests.support.coordinator_process import COMMAND, CoordinatorProcess
from tests.support.other_user import (
    IS_ROOT,
    OWNER,
    as_service,
    give,
    open_folder,
    owners,
    serve_as_service,
)


@pytest.fixture
def fresh() -> Iterator[CoordinatorProcess]:
    """Not initialised, in a folder that the service's user can reach."""
    with open_folder() as folder:
        yield CoordinatorProcess(folder)


def test_init_and_restore_as_root_keep_the_owner_of_the_folder(fresh: CoordinatorProcess) -> None:
    fresh.state_dir.mkdir(mode=0o700)
    give(fresh.state_dir)
    fresh.init()
    assert owners(fresh.state_dir) == {OWNER}
    backup = fresh.folder / "backup.db"
    backup.write_bytes((fresh.state_dir / "coordinator.db").read_bytes())
    backup.chmod(0o600)
    restored = fresh.command("restore", str(backup))
    assert restored.returncode == 0, restored.stderr
    assert owners(fresh.state_dir) == {OWNER}
    as_service(lambda: require_usable(fresh.state_dir))


def test_init_as_root_for_a_named_user(fresh: CoordinatorProcess) -> None:
    made = fresh.command("init", "--user", user_name(OWNER))
    assert made.returncode == 0, made.stderr
    assert owners(fresh.state_dir) == {OWNER}


def test_state_of_another_user_exits_78_with_the_file_its_owner_and_the_command(
    fresh: CoordinatorProcess,
) -> None:
    fresh.init_here()
    if IS_ROOT:
        for path in (fresh.state_dir, *fresh.state_dir.rglob("*")):
            give(path)
        os.chown(fresh.state_dir / "coordinator.db", 0, 0)
    else:
        (fresh.state_dir / "coordinator.db").chmod(0o000)
    done = serve_as_service(COMMAND, fresh.config)
    assert done.returncode == 78, done.stderr
    assert "Traceback" not in done.stderr
    assert "coordinator.db belongs to" in done.stderr
    assert f"chown -R {user_name(OWNER)}:" in done.stderr


def test_a_configuration_that_cannot_be_read_exits_78_and_not_2(fresh: CoordinatorProcess) -> None:
    fresh.config.chmod(0o600 if IS_ROOT else 0o000)
    done = serve_as_service(COMMAND, fresh.config)
    assert done.returncode == 78, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{fresh.config} belongs to" in done.stderr


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_an_init_that_was_killed_is_begun_anew(fresh: CoordinatorProcess, moved: int) -> None:
    fresh.init_here()
    staging = fresh.state_dir / ".init-killed"
    staging.mkdir()
    for name in ("ca", "operators", "blobs", "coordinator.db")[moved:]:
        (fresh.state_dir / name).rename(staging / name)
    fresh.init_here()
    assert sorted(path.name for path in fresh.state_dir.iterdir()) == [
        "blobs",
        "ca",
        "coordinator.db",
        "operators",
    ]
