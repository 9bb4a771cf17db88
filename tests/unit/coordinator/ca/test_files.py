"""Files of the authority: written atomically, with permissions independent of the umask."""

from __future__ import annotations

import os
import stat

import pytest

from coordinator.ca import files
from protos.domain.errors import ConfigInvalid, Conflict, NotFound


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_permissions_do_not_depend_on_the_umask(tmp_path):
    files.write_key(tmp_path / "key.pem", b"k")
    files.write_public(tmp_path / "cert.pem", b"c")
    modes = [stat.S_IMODE((tmp_path / one).stat().st_mode) for one in ("key.pem", "cert.pem")]
    assert modes == [0o600, 0o644]
    assert files.read_key(tmp_path / "key.pem") == b"k"


def test_an_existing_file_is_replaced_only_if_asked(tmp_path):
    path = tmp_path / "key.pem"
    files.write_key(path, b"old")
    with pytest.raises(Conflict):
        files.write_key(path, b"new")
    assert path.read_bytes() == b"old"
    files.write_key(path, b"new", replace=True)
    assert path.read_bytes() == b"new"
    assert [one.name for one in tmp_path.iterdir()] == ["key.pem"]


def test_reading(tmp_path):
    with pytest.raises(NotFound):
        files.read_key(tmp_path / "none.pem")
    (tmp_path / "open.pem").write_bytes(b"k")
    (tmp_path / "open.pem").chmod(0o604)
    with pytest.raises(ConfigInvalid, match="0604"):
        files.read_key(tmp_path / "open.pem")


def test_a_leftover_of_a_killed_write_does_not_stop_the_next(tmp_path):
    (tmp_path / ".key.pem.new").write_bytes(b"half")
    files.write_key(tmp_path / "key.pem", b"whole")
    assert (tmp_path / "key.pem").read_bytes() == b"whole"
