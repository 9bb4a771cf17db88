"""The identity on disk: one file, old or new, whatever happens while it is replaced."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from agent.link.identity import (
    FILE,
    PENDING_KEY,
    Identity,
    StoredIdentity,
    has_old_layout,
    load_identity,
    load_stored,
    resave,
    save_identity,
)
from protos.domain.certificates import NODE_LIFE_MS
from protos.domain.errors import ConfigInvalid
from tests.support.certificates import p256_key, private_pem, self_signed_pem
from tests.support.kills import killed_at_each_call

CA = self_signed_pem(p256_key(), ())


def stored(node_id: str = "gru-1", not_after_unix_ms: int = NODE_LIFE_MS) -> StoredIdentity:
    key = p256_key()
    identity = Identity(node_id, "GRU", "c:7401", 0, not_after_unix_ms, "ab" * 32)
    return StoredIdentity(identity, private_pem(key), self_signed_pem(key, ()), CA + CA)


OLD, NEW = stored(), stored(not_after_unix_ms=2 * NODE_LIFE_MS)


def write_old_layout(folder: Path, of: StoredIdentity) -> None:
    """Write the four files of earlier versions."""
    folder.mkdir(mode=0o700, exist_ok=True)
    one = of.identity
    facts = {name: getattr(one, name) for name in ("node_id", "pop_id", "fleet_address")}
    times = {name: getattr(one, name) for name in ("not_before_unix_ms", "not_after_unix_ms")}
    (folder / "key.pem").write_bytes(of.key_pem)
    (folder / "cert.pem").write_bytes(of.cert_pem)
    (folder / "ca.pem").write_bytes(of.ca_pem)
    (folder / "identity.json").write_text(json.dumps({**facts, **times}))


def test_what_was_saved_comes_back_and_is_this_users_only(tmp_path: Path) -> None:
    folder = tmp_path / "identity"
    resave(folder, OLD)
    assert load_stored(folder) == OLD
    assert load_identity(folder) == OLD.identity
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "PRIVATE" not in repr(OLD)


def test_a_renewal_killed_at_any_call_leaves_the_old_identity_or_the_new_one(
    tmp_path: Path,
) -> None:
    folder, seen = tmp_path / "identity", set()

    def prepare() -> None:
        resave(folder, OLD)
        (folder / PENDING_KEY).write_bytes(NEW.key_pem)

    for _ in killed_at_each_call(prepare, lambda: resave(folder, NEW)):
        left = load_stored(folder)
        assert left in (OLD, NEW), "never anything else, and never 'not enrolled'"
        assert left == NEW or (folder / PENDING_KEY).exists(), "the old one can renew again"
        seen.add(left.identity.not_after_unix_ms)
    assert len(seen) == 2, "kills on both sides of the rename"
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_the_layout_of_earlier_versions_killed_at_any_call_of_its_migration_stays_an_identity(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "identity"
    write_old_layout(folder, OLD)
    assert has_old_layout(folder)
    was = load_stored(folder)
    assert was.key_pem == OLD.key_pem
    assert len(was.identity.fleet_id) == 64, "the fleet is known by its authority"

    def prepare() -> None:
        for path in folder.iterdir():
            path.unlink()
        write_old_layout(folder, OLD)

    for _ in killed_at_each_call(prepare, lambda: resave(folder, was)):
        assert load_stored(folder) == was
    assert not has_old_layout(folder)
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_no_identity_says_how_to_enrol(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="not enrolled") as refused:
        load_identity(tmp_path)
    assert "edgeforge-agent enroll" in refused.value.hint


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-10], id="cut"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data.replace(b"gru-1", b"gru-2", 1)[:-1] + b"x", id="flipped"),
        pytest.param(lambda data: b"\0" * len(data), id="zeroed"),
    ],
)
def test_a_damaged_identity_is_one_message(tmp_path: Path, damage) -> None:
    resave(tmp_path, OLD)
    (tmp_path / FILE).write_bytes(damage((tmp_path / FILE).read_bytes()))
    with pytest.raises(ConfigInvalid, match="is damaged"):
        load_identity(tmp_path)


def test_an_identity_that_is_a_folder_is_not_said_to_have_the_wrong_owner(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(ConfigInvalid, match=r"identity\.pem cannot be read: Is a directory"):
        load_identity(tmp_path)


def test_a_disk_that_takes_no_new_identity_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resave(tmp_path, OLD)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_identity(tmp_path, NEW.identity, key_pem=b"", cert_pem=b"", ca_pem=b"")
    assert load_stored(tmp_path) == OLD
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
