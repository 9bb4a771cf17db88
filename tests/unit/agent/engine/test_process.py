"""An engine's folders, and what its log says last."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agent.engine.process import EnginePaths, last_words, require_engine_environment
from protos.domain.errors import ConfigInvalid, NoEngineEnvironment


def folder_of_bytes(length: int) -> Path:
    return Path("/" + "x" * (length - 1))


def test_a_socket_path_that_just_fits_and_one_that_does_not() -> None:
    room = 107 - len("/run/e.sock")
    EnginePaths(folder_of_bytes(room)).check()
    with pytest.raises(ConfigInvalid, match=r"108 bytes.*107.*shorter state folder"):
        EnginePaths(folder_of_bytes(room + 1)).check()


def test_the_length_is_counted_in_bytes() -> None:
    with pytest.raises(ConfigInvalid, match="has a path of"):
        EnginePaths(Path("/" + "ü" * 60)).check()


def test_the_private_folder_is_private_and_empty(tmp_path: Path) -> None:
    paths = EnginePaths(tmp_path / "engine")
    paths.prepare()
    (paths.run_dir / "old.sock").touch()
    (paths.home_dir / "cache").touch()
    paths.prepare()
    assert list(paths.run_dir.iterdir()) == []
    assert stat.S_IMODE(paths.run_dir.stat().st_mode) == 0o700
    assert [path.name for path in paths.home_dir.iterdir()] == ["cache"]


def test_a_missing_environment_is_named_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(NoEngineEnvironment) as caught:
        require_engine_environment(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere" / "bin" / "python") in str(caught.value)
    assert f"packaging/engine/install --venv {tmp_path / 'nowhere'}" in str(caught.value)
    assert caught.value.exit_code == 78


def test_an_interpreter_that_cannot_be_executed_is_none(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text("")
    with pytest.raises(NoEngineEnvironment, match="cannot be executed"):
        require_engine_environment(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("[guard] started pid 1: python\n[guard] the engine is gone, exit code 1\n", ""),
        ("[guard] started pid 1: python\nINFO loading\n\nbye\n", "bye"),
        (
            "(Worker pid=7) ERROR [x.py:9] ValueError: it does not fit\nINFO shutting down\n",
            "ValueError: it does not fit",
        ),
        (
            "WARNING this can cause fd limit errors like `OSError: [Errno 24] Too many`\n"
            "RuntimeError: Engine core initialization failed.\n",
            "RuntimeError: Engine core initialization failed.",
        ),
        ("KeyError: of before\n[guard] started pid 2: python\nhello\n", "hello"),
    ],
)
def test_the_last_words(tmp_path: Path, text: str, words: str) -> None:
    log = tmp_path / "engine.log"
    log.write_text(text)
    assert last_words(log) == words


def test_the_last_words_are_few(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_bytes(b"\xff" * 100_000 + b"\nTypeError: " + b"x" * 10_000)
    assert len(last_words(log)) == 300


def test_no_log_no_words(tmp_path: Path) -> None:
    assert last_words(tmp_path / "none") == ""
