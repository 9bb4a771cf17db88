"""A removed node serves nobody, over restarts, until it is admitted or enrolled again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from agent.link.removal import FILE, Removal
from protos.domain.errors import NoReplica

OWNER = "fleet/gru-1"
WHY = "node/gru-1 has been removed"


def removal(folder: Path, owner: str = OWNER) -> tuple[Removal, list[str]]:
    changes: list[str] = []
    made = Removal(folder, owner, lambda: 1_000, changes.append)
    made.load()
    return made, changes


def test_a_removed_node_says_so_and_refuses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, changes = removal(tmp_path)
    one.require_member()
    with caplog.at_level(logging.ERROR):
        one.told(WHY)
        one.told(WHY)
    assert changes == [WHY]
    assert caplog.text.count("removed from the fleet") == 1
    with pytest.raises(NoReplica, match="removed from its fleet") as refused:
        one.require_member()
    assert refused.value.retryable
    (sample,) = one.samples(0.0)
    assert (sample.name, sample.value) == ("edgeforge_removed", True)
    assert one.status(0.0) == {"removed": WHY}


def test_it_is_remembered_over_a_restart(tmp_path: Path) -> None:
    removal(tmp_path)[0].told(WHY)
    again, changes = removal(tmp_path)
    assert again.reason == WHY
    assert changes == [WHY]


def test_a_node_that_is_admitted_again_serves_over_restarts_too(tmp_path: Path) -> None:
    one, changes = removal(tmp_path)
    one.told(WHY)
    one.admitted()
    one.admitted()
    assert changes == [WHY, ""]
    assert removal(tmp_path)[0].reason == ""


@pytest.mark.parametrize("other", ["fleet/gru-2", "another/gru-1"])
def test_what_was_said_of_another_identity_does_not_count(tmp_path: Path, other: str) -> None:
    removal(tmp_path)[0].told(WHY)
    assert removal(tmp_path, other)[0].reason == ""


@pytest.mark.parametrize("junk", [b"", b"[]", b"{}", b"\xff", b'{"owner": "fleet/gru-1"}'])
def test_a_damaged_note_says_nothing(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / FILE).write_bytes(junk)
    assert removal(tmp_path)[0].reason == ""


def test_a_full_disk_does_not_keep_a_removed_node_serving(tmp_path: Path) -> None:
    one, changes = removal(tmp_path / "missing")
    one.told(WHY)
    assert changes == [WHY]
