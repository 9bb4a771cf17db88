"""The secret of an agent's cache salts: made once, private, replaced only if it is damaged."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agent.cache_secret import FILE_NAME, load_cache_secret
from agent.core.cache_salt import SECRET_BYTES
from protos.domain.errors import ConfigInvalid


def test_it_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    made = load_cache_secret(tmp_path)
    assert len(made) == SECRET_BYTES
    assert load_cache_secret(tmp_path) == made
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [FILE_NAME]


def test_two_agents_have_different_ones(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert load_cache_secret(tmp_path / "a") != load_cache_secret(tmp_path / "b")


@pytest.mark.parametrize("left", [b"", b"short", b"x" * 100])
def test_a_damaged_one_is_replaced(tmp_path: Path, left: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(left)
    made = load_cache_secret(tmp_path)
    assert len(made) == SECRET_BYTES
    assert load_cache_secret(tmp_path) == made


def test_one_that_others_could_read_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"s" * SECRET_BYTES)
    path.chmod(0o644)
    assert load_cache_secret(tmp_path) == b"s" * SECRET_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_one_that_cannot_be_read_or_written_is_a_mistake_of_the_configuration(
    tmp_path: Path,
) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(ConfigInvalid, match=FILE_NAME):
        load_cache_secret(tmp_path)
