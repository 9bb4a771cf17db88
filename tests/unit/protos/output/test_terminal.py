"""Whatever text is printed: no control character reaches a terminal, and none of it is markup."""

from __future__ import annotations

import contextlib
import errno
import io
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.domain.errors import ConfigInvalid, InvalidRequest
from protos.domain.plain_text import escaped
from protos.output import terminal

MARKUP = st.sampled_from(
    ("[/x]", "[bold]", "[link=file:///]", "\\[", ":boom:", "\x1b]0;x\x07", "\n")
)
any_text = st.lists(st.text(st.characters(), max_size=12) | MARKUP, max_size=5).map("".join)


def printed(call: Callable[[], None]) -> tuple[str, str]:
    """Return what ``call`` wrote to standard output and to standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        call()
    return out.getvalue(), err.getvalue()


def squeezed(text: str) -> str:
    """Return ``text`` without its spaces and line ends: a table pads and wraps its cells."""
    return "".join(text.split())


@given(any_text)
def test_any_text_is_one_line_without_control_characters(text):
    out, _ = printed(lambda: terminal.print_line(text))
    assert out == escaped(text) + "\n"


@given(any_text)
def test_any_text_in_a_table_is_shown_as_it_is_and_never_as_markup(text):
    out, _ = printed(lambda: terminal.print_table((f"head {text}",), [(text,)], "empty"))
    assert out.replace("\n", "").isprintable()
    assert squeezed(out) == squeezed(f"head{escaped(text)}{escaped(text)}")


@given(any_text)
def test_any_picture_becomes_lines_of_plain_text(text):
    picture = terminal.stacked([terminal.plain(text, style="red")])
    assert squeezed(terminal.as_text(picture, 80)) == squeezed(escaped(text))


@given(any_text)
def test_any_text_in_json_is_printable_and_stays_the_same_value(text):
    out, _ = printed(lambda: terminal.print_json({"name": text}))
    assert out.replace("\n", "").isprintable()
    assert json.loads(out) == {"name": text}


@given(any_text)
def test_a_line_of_progress_or_of_an_error_cannot_look_like_another(text):
    _, err = printed(lambda: terminal.print_progress(f"hashing {text}"))
    assert err.replace("\n", "").isprintable()
    _, err = printed(lambda: terminal.print_error("edgeforge", InvalidRequest(text, text)))
    first, *others = err.removesuffix("\n").split("\n")
    *continued, hint = others if text else [*others, ""]
    assert first.startswith("edgeforge: ")
    assert all(line.startswith("    ") for line in continued)
    assert hint == (f"  {escaped(text)}" if text else "")
    assert err.replace("\n", "").isprintable()


def test_every_problem_of_a_configuration_is_a_line():
    _, err = printed(
        lambda: terminal.print_error("edgeforge", ConfigInvalid(["a is 1", "b is 2"], "mend both"))
    )
    assert err == "edgeforge: a is 1\nedgeforge: b is 2\n  mend both\n"


def failing(error: Exception) -> Callable[[], None]:
    """Return a program that raises ``error``."""

    def app() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigInvalid(["a\x1b"], "mend"), 78, ["x: a\\x1b", "  mend"]),
        (InvalidRequest("no\nx: yes"), 1, ["x: no", "    x: yes"]),
        (OSError(errno.ENOSPC, "full", "/f\x1b"), 1, ["x: cannot write: /f\\x1b: full"]),
        (OSError(errno.ENOSPC, "full"), 1, ["x: cannot write: full"]),
        (OSError(errno.EROFS, "read-only", "/f"), 78, ["x: /f: read-only"]),
        (OSError(errno.ENOTDIR, "no folder", "/f/x"), 78, ["x: /f/x: no folder"]),
        (OSError(errno.EISDIR, "a folder", "/f"), 78, ["x: /f: a folder"]),
        (OSError(2, "no", "f\x1b"), 1, ["x: unexpected error, please report it"]),
        (RuntimeError("a\nx: all is well\x1b"), 1, ["x: unexpected error, please report it"]),
    ],
)
def test_whatever_ends_a_program_is_printed_escaped_with_its_exit_code(error, code, said):
    codes: list[object] = []

    def run() -> None:
        try:
            terminal.run_program("x", failing(error))
        except SystemExit as ended:
            codes.append(ended.code)

    _, err = printed(run)
    lines = err.removesuffix("\n").split("\n")
    assert codes == [code]
    assert lines[: len(said)] == said
    shown = lines[len(said) :]
    assert all(line.isprintable() and line.startswith("  ") for line in shown)


def test_a_table_without_rows_says_so_and_one_without_names_has_no_header():
    assert printed(lambda: terminal.print_table(("a",), [], "nothing yet")) == ("nothing yet\n", "")
    out, _ = printed(lambda: terminal.print_table(("", ""), [("node", "gru-1")], ""))
    assert out.split() == ["node", "gru-1"]
    assert out.count("\n") == 1


def test_a_cell_keeps_its_style_and_a_column_its_footer():
    columns = (terminal.Column("ms", footer="[sum]", align="right", min_width=8),)
    table = terminal.plain_table(columns, [(terminal.plain("1.0", style="red"),)])
    lines = terminal.as_text(table, 40).splitlines()
    assert [line.rstrip() for line in lines] == ["      ms", "     1.0", "   [sum]"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_streams_encoding_lacks_is_escaped_and_nothing_dies(encoding, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding=encoding))
    terminal.print_line("█ 日本")
    terminal.print_table(("city",), [("日本",)], "")
    shown = written.getvalue().decode(encoding).split()
    assert shown == ["\\u2588", "\\u65e5\\u672c", "city", "\\u65e5\\u672c"]
