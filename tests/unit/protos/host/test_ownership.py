"""What root writes belongs to the service's user; what a service may not use is one message."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from protos.domain.errors import ConfigInvalid, InvalidRequest
from protos.host.files import make_private_folder, write_whole
from protos.host.ownership import (
    adopt_all,
    as_owner_of,
    give_folder,
    not_allowed,
    require_usable,
    user_name,
)
from tests.support.other_user import IS_ROOT, SERVICE, as_service, give, open_folder

OWNER = SERVICE.pw_uid if IS_ROOT else os.geteuid()


@pytest.fixture
def folder() -> Iterator[Path]:
    """The state folder of a service."""
    with open_folder() as parent:
        state = parent / "state"
        state.mkdir(mode=0o700)
        give(state)
        yield state


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


def test_what_root_writes_belongs_to_the_owner_of_the_folder_and_the_service_can_use_it(
    folder: Path,
) -> None:
    make_private_folder(folder / "identity" / "deep")
    write_whole(folder / "identity" / "identity.pem", b"x")
    write_whole(folder / "identity" / "identity.pem", b"again")
    assert owners(folder) == {OWNER}
    as_service(lambda: require_usable(folder))
    as_service(lambda: write_whole(folder / "identity" / "identity.pem", b"renewed"))


def test_what_root_made_otherwise_is_given_to_the_owner_afterwards(folder: Path) -> None:
    (folder / "ca").mkdir()
    (folder / "ca" / "key").write_bytes(b"x")
    (folder / "link").symlink_to("/etc/passwd")
    adopt_all(folder)
    assert owners(folder) == {OWNER}
    assert Path("/etc/passwd").stat().st_uid == 0, "links are not followed"


def test_a_folder_is_given_to_a_user_with_all_that_is_in_it(folder: Path) -> None:
    state = folder.parent / "new"
    user = user_name(OWNER)
    give_folder(state, user)
    write_whole(state / "one", b"x")
    assert owners(state) == {OWNER}
    with pytest.raises(InvalidRequest, match="there is no user 'nobody-knows'"):
        give_folder(state, "nobody-knows")


def test_a_file_that_the_service_may_not_read_is_named_with_its_owner_and_the_command(
    folder: Path,
) -> None:
    secret = folder / "secret"
    secret.write_bytes(b"x")
    secret.chmod(0o600 if IS_ROOT else 0o000)

    def refused() -> None:
        with pytest.raises(ConfigInvalid) as caught:
            require_usable(folder)
        (problem,) = caught.value.problems
        me = user_name(os.geteuid())
        assert f"{secret} cannot be used by the user {me}" in problem
        assert f"belongs to {user_name(secret.stat().st_uid)}:" in problem
        assert f"chown -R {me}:" in caught.value.hint
        assert str(folder) in caught.value.hint

    as_service(refused)


def test_a_configuration_that_the_service_may_not_read_stays_its_owners(folder: Path) -> None:
    file = folder.parent / "agent.toml"
    file.write_text("")
    file.chmod(0o600)
    said = not_allowed(file)
    assert "chgrp" in said.hint
    assert f"chmod g+r {file}" in said.hint
    assert "chown" not in said.hint


def test_a_folder_above_that_may_not_be_entered_is_what_is_named(folder: Path) -> None:
    closed = folder.parent / "closed"
    (closed / "below").mkdir(parents=True)
    closed.chmod(0o700 if IS_ROOT else 0o000)

    def refused() -> None:
        said = not_allowed(closed / "below" / "agent.toml")
        assert f"{closed} belongs to" in said.problems[0]
        assert f"chmod g+rx {closed}" in said.hint

    as_service(refused)
    closed.chmod(0o700)


def test_what_the_service_made_read_only_itself_is_usable(folder: Path) -> None:
    def publish() -> None:
        model = folder / "model"
        model.mkdir(mode=0o700)
        (model / "weights").write_bytes(b"x")
        (model / "weights").chmod(0o400)
        model.chmod(0o500)
        require_usable(folder)
        model.chmod(0o700)

    as_service(publish)


def test_a_folder_that_is_not_there_yet_is_no_problem(tmp_path: Path) -> None:
    require_usable(tmp_path / "none")


@pytest.mark.skipif(not IS_ROOT, reason="only root acts as another user")
def test_a_link_that_the_service_has_placed_leads_root_to_nothing_of_roots(folder: Path) -> None:
    roots = folder.parent / "roots"
    roots.mkdir(mode=0o755)
    for name, target in (("identity", roots), ("lock", roots / "new")):
        (folder / name).symlink_to(target)
    with pytest.raises(ConfigInvalid, match="belongs to root"), as_owner_of(folder):
        (folder / "lock").open("w").close()
    with (
        pytest.raises(ConfigInvalid, match="cannot be used by the user nobody"),
        as_owner_of(folder),
    ):
        make_private_folder(folder / "identity")
    assert os.geteuid() == 0
    assert roots.stat().st_mode & 0o777 == 0o755
    assert not list(roots.iterdir())


@pytest.mark.skipif(not IS_ROOT, reason="only root acts as another user")
def test_who_may_replace_the_folder_decides_for_whom_root_works(folder: Path) -> None:
    roots = folder.parent / "roots"
    roots.mkdir()
    (folder / "deep").symlink_to(roots)
    for place in (folder, folder / "not" / "yet", folder / "deep", folder / "deep" / "er"):
        with as_owner_of(place):
            assert os.geteuid() == OWNER, place
    with as_owner_of(roots):
        assert os.geteuid() == 0


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
def test_a_file_with_another_name_elsewhere_is_not_given_to_the_service(folder: Path) -> None:
    roots = folder.parent / "secret"
    roots.write_bytes(b"x")
    (folder / "mine").hardlink_to(roots)
    give_folder(folder, user_name(OWNER))
    assert roots.stat().st_uid == 0


def test_nobody_is_told_to_open_a_home_or_a_folder_of_the_system() -> None:
    def refused() -> None:
        for path in (Path("/root/.config/edgeforge/x"), Path("/nowhere-at-all/x")):
            said = not_allowed(path)
            assert "chgrp" not in said.hint, said.hint
            assert "name a place that" in said.hint

    if IS_ROOT:
        as_service(refused)
