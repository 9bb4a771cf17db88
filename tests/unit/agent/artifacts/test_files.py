"""Pulled files: whole under their names, over a loss of power too."""

from __future__ import annotations

from agent.artifacts import files
from agent.artifacts.files import _publish


def test_the_folder_of_a_pulled_file_is_synced_after_its_rename(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        files, "sync_folder", lambda folder: synced.append((folder, (tmp_path / "final").exists()))
    )
    (tmp_path / "partial").write_bytes(b"weights")
    _publish(tmp_path / "partial", tmp_path / "final")
    assert synced == [(tmp_path, True)]
    assert (tmp_path / "final").read_bytes() == b"weights"
