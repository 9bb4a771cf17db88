"""Progress of an upload: MiB and rate on a terminal, few plain lines elsewhere."""

from __future__ import annotations

import io

from coordinator.cli.upload_progress import UploadProgress
from protos.output.terminal import StatusLine

MIB = 1024**2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now_ms = 1_000.0

    def __call__(self) -> float:
        return self.now_ms


def sent(stream: io.StringIO, begun: int = 0) -> str:
    clock = Clock()
    progress = UploadProgress("w", begun * MIB, 100 * MIB, clock, StatusLine(stream))
    for _ in range(100 - begun):
        clock.now_ms += 250.0
        progress.advance(MIB)
    progress.finish()
    return stream.getvalue()


def test_a_terminal_shows_one_line_that_changes():
    text = sent(Terminal())
    assert text.count("\n") == 1
    assert text.endswith("w: 100.0 MiB of 100.0 MiB, 4.0 MiB/s\n")
    assert "w: 50.0 MiB of 100.0 MiB, 4.0 MiB/s" in text


def test_elsewhere_there_is_a_line_at_the_start_and_one_every_ten_seconds():
    lines = sent(io.StringIO()).splitlines()
    assert lines == [
        "uploading w (100.0 MiB)",
        "w: 40.0 MiB of 100.0 MiB, 4.0 MiB/s",
        "w: 80.0 MiB of 100.0 MiB, 4.0 MiB/s",
    ]


def test_the_rate_is_of_what_this_client_sent():
    text = sent(io.StringIO(), begun=40)
    assert text.splitlines()[0] == "uploading w (100.0 MiB, 40.0 MiB are there)"
    assert "w: 80.0 MiB of 100.0 MiB, 4.0 MiB/s" in text


def test_text_of_others_is_escaped_and_cut_to_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    StatusLine(stream).show("a\x1b[31m" + "x" * 200)
    assert stream.getvalue().count("\x1b") == 1, "the one that clears the line"
    assert len(stream.getvalue()) < 50
