"""One entry is one line, whatever a peer, an engine or a client wrote into it."""

from __future__ import annotations

import io
import logging
import sys
import threading

from hypothesis import given
from hypothesis import strategies as st

from protos.output.logs import EscapingFormatter, log_to_stderr

FORGED = "2026-11-27 12:00:00,000 INFO coordinator.rpc key revoked"


def formatted(message: str, *args: object, error: BaseException | None = None) -> list[str]:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("agent.link", logging.ERROR, __file__, 1, message, args, exc_info)
    return EscapingFormatter().format(record).split("\n")


def test_a_newline_in_what_an_agent_answers_forges_no_entry():
    (line,) = formatted("refused node=%s: %s", "gru-1", f"no\n{FORGED}\x1b[2J\u202e")
    assert line.endswith(f"ERROR agent.link refused node=gru-1: no\\n{FORGED}\\x1b[2J\\u202e")


def test_a_traceback_keeps_its_lines_and_none_of_them_begins_like_an_entry():
    try:
        raise ValueError(f"bad\n{FORGED}\x07")
    except ValueError as error:
        first, *below = formatted("cannot parse", error=error)
    assert first.endswith("ERROR agent.link cannot parse")
    assert below[0] == "  Traceback (most recent call last):"
    assert below[1].startswith(f'    File "{__file__}"')
    assert below[-2:] == ["  ValueError: bad", f"  {FORGED}\\x07"]


def test_a_traceback_that_another_handler_has_formatted_is_escaped_too():
    record = logging.LogRecord("agent", logging.ERROR, __file__, 1, "failed", (), None)
    record.exc_text = f"ValueError\n{FORGED}\x1b"
    record.stack_info = "Stack\x1b"
    assert EscapingFormatter("%(message)s").format(record).split("\n") == [
        "failed",
        "  ValueError",
        f"  {FORGED}\\x1b",
        "  Stack\\x1b",
    ]


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_text_leaves_no_control_character_and_no_line_that_could_be_an_entry(name, text):
    first, *below = formatted("node=%s", name, error=RuntimeError(text))
    assert first.isprintable()
    assert all(line.isprintable() and line.startswith("  ") for line in below)


def test_an_exception_that_ends_a_thread_is_an_entry(monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    log_to_stderr(logging.INFO)
    thread = threading.Thread(target=lambda: int("\x1b[3J"), name="reader")
    thread.start()
    thread.join()
    said = stderr.getvalue()
    assert "ERROR protos.output.logs a thread ended by an exception thread=reader\n" in said
    assert "\x1b" not in said
