"""The one place that prints. Every text is escaped, and none is read as markup.

Tables and answers go to standard output, progress and errors to standard error.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from protos.domain.errors import ConfigInvalid, EdgeForgeError, StoreUnavailable
from protos.domain.plain_text import escaped, json_escaped
from protos.host.ownership import not_allowed

__all__ = [
    "Column",
    "Picture",
    "StatusLine",
    "as_text",
    "confirmed",
    "plain",
    "plain_table",
    "print_error",
    "print_json",
    "print_line",
    "print_picture",
    "print_progress",
    "print_table",
    "print_text",
    "run_program",
    "stacked",
]

_EXIT_FAILED = 1
#: A disk that takes no more, for now.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
#: What stays so until somebody mends a file or a path.
_MISPLACED = frozenset(
    {
        *(errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
        *(errno.ENXIO, errno.EEXIST, errno.ENOTEMPTY),
    }
)
_MAX_ANSWER_CHARS = 16
#: Wide enough that a pipe gets every row on one line.
_PIPE_WIDTH = 200
#: Before each further line of an error: deeper than a hint, so that it is not taken for one.
_CONTINUATION = "    "

Picture = RenderableType


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    footer: str = ""
    align: Literal["left", "right"] = "left"
    min_width: int | None = None


def print_line(text: str) -> None:
    """Print ``text`` on one line."""
    _write(sys.stdout, escaped(text))


def print_text(text: str) -> None:
    """Print text of our own that has several lines."""
    _write(sys.stdout, _lines_escaped(text))


def print_progress(text: str) -> None:
    """Print what is being done to standard error; line ends are kept."""
    _write(sys.stderr, _lines_escaped(text))


class StatusLine:
    """One line of standard error that changes in place on a terminal; lines elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        #: Whether each text takes the place of the one before.
        self.changes = self._stream.isatty()

    def show(self, text: str) -> None:
        """Show ``text`` instead of what was shown before, or below it."""
        if not self.changes:
            _write(self._stream, escaped(text))
            return
        width = max(shutil.get_terminal_size().columns - 1, 20)
        print(f"\r\x1b[K{escaped(text)[:width]}", end="", file=_tolerant(self._stream), flush=True)

    def keep(self) -> None:
        """Leave what is shown, and go to the next line."""
        if self.changes:
            _write(self._stream, "")


def confirmed(question: str) -> bool:
    """Ask ``question`` on a terminal and return whether the answer was yes; without one, False."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{escaped(question)} [y/N] ", end="", file=_tolerant(sys.stderr), flush=True)
    return sys.stdin.readline(_MAX_ANSWER_CHARS).strip().lower() in ("y", "yes")


def print_error(program: str, error: EdgeForgeError) -> None:
    """Print what failed, then what to do next."""
    for problem in error.problems if isinstance(error, ConfigInvalid) else (error.message,):
        first, *others = problem.split("\n")
        _write(sys.stderr, f"{program}: {escaped(first)}")
        for line in others:
            _write(sys.stderr, _CONTINUATION + escaped(line))
    if error.hint:
        _write(sys.stderr, f"  {escaped(error.hint)}")


def run_program(program: str, app: Callable[[], object]) -> None:
    """Run a command line; print what it raises and exit with its code, 78 for ConfigInvalid.

    A file that this user may not use, or that is not what it must be, is one too: a restart does
    not help. A full disk is not.
    """
    try:
        try:
            app()
        except OSError as error:
            raise _of_file(error) or error from error
    except EdgeForgeError as error:
        print_error(program, error)
        sys.exit(error.exit_code if isinstance(error, ConfigInvalid) else _EXIT_FAILED)
    except Exception:
        _write(sys.stderr, f"{program}: unexpected error, please report it")
        for line in traceback.format_exc().rstrip("\n").split("\n"):
            _write(sys.stderr, _CONTINUATION + escaped(line))
        sys.exit(_EXIT_FAILED)


def _of_file(error: OSError) -> EdgeForgeError | None:
    """Return what to tell an operator of a file that cannot be used; None for anything else."""
    name = error.filename
    path = os.fsdecode(name) if isinstance(name, str | bytes) else ""
    if isinstance(error, PermissionError) and path:
        return not_allowed(Path(path))
    said = f"{path}: {error.strerror}" if path else str(error.strerror)
    if error.errno in _FULL:
        return StoreUnavailable(f"cannot write: {said}", "free some space, then run it again")
    if error.errno in _MISPLACED and path:
        return ConfigInvalid([said], "what is there is not what this needs: move it, or the path")
    return None


def print_json(value: object, *, indent: int | None = 1) -> None:
    """Print ``value`` as JSON, with control characters escaped inside its strings."""
    _write(sys.stdout, json_escaped(json.dumps(value, indent=indent, ensure_ascii=False)))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows under their columns; ``empty`` when there are none."""
    listed = list(rows)
    if listed:
        print_picture(plain_table(columns, listed))
    else:
        print_line(empty)


def print_picture(picture: Picture) -> None:
    """Print what ``plain_table``, ``plain`` and ``stacked`` made, as wide as the terminal."""
    stdout = _tolerant(sys.stdout)
    width = None if stdout.isatty() else _PIPE_WIDTH
    _console(width, file=stdout).print(picture)


def as_text(picture: Picture, width: int) -> str:
    """Return a picture as lines of plain text."""
    console = _console(width, file=io.StringIO(), color_system=None)
    with console.capture() as captured:
        console.print(picture)
    return captured.get()


def plain(text: str, style: str = "") -> Text:
    """Return one line of ``text``, escaped, to put into a picture."""
    return Text(escaped(text), style=style)


def plain_table(columns: Sequence[str | Column], rows: Iterable[Sequence[object]]) -> Picture:
    """Return a table whose cells are escaped; a cell that ``plain`` made keeps its style.

    Without names of columns it has no header, without footers no footer.
    """
    described = [Column(one) if isinstance(one, str) else one for one in columns]
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        show_header=any(one.name for one in described),
        show_footer=any(one.footer for one in described),
    )
    for one in described:
        table.add_column(
            plain(one.name),
            footer=plain(one.footer),
            justify=one.align,
            min_width=one.min_width,
        )
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else plain(str(cell)) for cell in row))
    return table


def stacked(parts: Iterable[Picture]) -> Picture:
    """Return a picture of ``parts``, one below the other."""
    return Group(*parts)


def _lines_escaped(text: str) -> str:
    return "\n".join(escaped(line) for line in text.split("\n"))


def _write(stream: TextIO, text: str) -> None:
    print(text, file=_tolerant(stream), flush=True)


def _tolerant(stream: TextIO) -> TextIO:
    """Return ``stream``, which from now on escapes what its encoding lacks."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")
    return stream


def _console(
    width: int | None, *, file: TextIO, color_system: Literal["auto"] | None = "auto"
) -> Console:
    return Console(
        width=width,
        file=file,
        color_system=color_system,
        markup=False,
        emoji=False,
        highlight=False,
    )
