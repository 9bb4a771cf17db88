"""What commands print: tables for people, JSON for scripts, progress on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

#: Wide enough that a pipe gets every row on one line.
_PIPE_WIDTH = 200


def print_json(value: object) -> None:
    """Print ``value`` as JSON."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def as_json(message: Message) -> dict[str, object]:
    """Return a message with its field names as in the .proto, defaults included."""
    return dict(
        MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    )


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows under their columns; ``empty`` when there are none."""
    listed = list(rows)
    if not listed:
        print(empty)
        return
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in listed:
        table.add_row(*(str(cell) for cell in row))
    console().print(table)


def console() -> Console:
    """Return where people read: as wide as their terminal, or as a pipe needs."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def print_progress(text: str) -> None:
    """Print one line of progress to standard error."""
    print(text, file=sys.stderr, flush=True)


def enum_word(name: str, prefix: str) -> str:
    """Return the value of an enum as people write it: TIER_EDGE is "edge"."""
    return name.removeprefix(prefix).lower()
