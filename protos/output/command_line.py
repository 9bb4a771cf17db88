"""How our command lines are made: texts are shown as written, errors as one message."""

from __future__ import annotations

import typer

#: Help is as wide as the terminal, up to here, so that summaries of commands are not cut.
_MAX_WIDTH = 120


def command_line(program: str, text: str, *, completes: bool = False) -> typer.Typer:
    """Return the command line of a program, to which commands are added.

    One that ``completes`` has ``--install-completion`` and ``--show-completion``.
    """
    return _app(program, text, add_completion=completes)


def command_group(name: str, text: str) -> typer.Typer:
    """Return a group of commands, such as ``edgeforge node``."""
    return _app(name, text, add_completion=True)


def _app(name: str, text: str, *, add_completion: bool) -> typer.Typer:
    return typer.Typer(
        name=name,
        help=text,
        no_args_is_help=True,
        add_completion=add_completion,
        pretty_exceptions_enable=False,
        context_settings={"max_content_width": _MAX_WIDTH},
        # Rich would take [nvidia] in a help text for a style, and leave it out.
        rich_markup_mode=None,
    )
