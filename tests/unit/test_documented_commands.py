"""Every command line of ours in the documentation is one that the programs take.

Names and options, against the real command trees; values and what is written in capitals are not
looked at.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import agent.cli
import coordinator.cli.main
import coordinator.daemon

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("*.md"),
        *(ROOT / "packaging").rglob("*.service"),
    ]
)
TREES = {
    "edgeforge": typer.main.get_command(coordinator.cli.main.app),
    "edgeforge-coordinator": typer.main.get_command(coordinator.daemon.app),
    "edgeforge-agent": typer.main.get_command(agent.cli.app),
}
#: What ends a command in a line of a shell, or in a sentence that lists several.
_ENDS = {"|", ">", ">>", "<", "&&", "||", ";", "#", "\u2192", "->"}
_WORD = re.compile(r"[a-z][a-z-]*")


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each command line of ours: in backticks, indented, or after ``Exec=``."""
    joined = text.replace("\\\n", " ")
    # Code in a sentence may be broken over two lines; an indented block is read line by line.
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", joined):
        yield from commands_in(" ".join(span.split()))
    for line in joined.splitlines():
        if line.startswith(("    ", "ExecStart=", "#   ")):
            yield from commands_in(line.removeprefix("ExecStart=").removeprefix("#"))


def commands_in(line: str) -> Iterator[list[str]]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        words = line.split()
    for start, word in enumerate(words):
        # A program, by its name or a path, that is asked for something.
        if word.rpartition("/")[2] in TREES and start + 1 < len(words):
            after = words[start + 1 :]
            end = next((at for at, one in enumerate(after) if one in _ENDS), len(after))
            if start == 0 or words[start - 1] in _ENDS | {"$", "sudo"}:
                yield [word.rpartition("/")[2], *(one.rstrip(";,") for one in after[:end])]


def fault_of(words: list[str]) -> str:
    """Return what is wrong with a command line; empty if nothing is."""
    here, said = TREES[words[0]], [words[0]]
    rest = iter(words[1:])
    for word in rest:
        if word.startswith("-"):
            name, has_value, _value = word.partition("=")
            option = option_of(here, name)
            if option is None:
                return f"{' '.join(said)} has no option {name}"
            if not (option.is_flag or has_value):
                next(rest, None)
        elif hasattr(here, "commands"):
            choices = [one for one in word.split("|") if _WORD.fullmatch(one)]
            if unknown := [one for one in choices if one not in here.commands]:
                return f"{' '.join(said)} has no command {unknown[0]}"
            if not choices or len(choices) > 1:
                return ""
            here = here.commands[word]
            said.append(word)
    return ""


def option_of(command: Any, name: str) -> Any:
    found = [
        one
        for one in command.params
        if one.param_type_name == "option" and name in (*one.opts, *one.secondary_opts)
    ]
    if found:
        return found[0]
    return Help() if name in ("--help", "-h") else None


class Help:
    """The option that every command has."""

    is_flag = True


@pytest.mark.parametrize("page", PAGES)
def test_every_command_line_in_the_documentation_runs(page):
    """OPERATIONS said ``node list`` where the command is ``node ls``."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [fault for words in command_lines(text) if (fault := fault_of(words))] == []


def test_operations_and_the_readme_have_commands():
    for page, least in (("docs/OPERATIONS.md", 25), ("README.md", 3), ("docs/CLI.md", 30)):
        assert len(list(command_lines((ROOT / page).read_text(encoding="utf-8")))) >= least


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("    edgeforge --profile /x/profile.toml node list", "edgeforge node has no command list"),
        ("see `edgeforge node list`", "edgeforge node has no command list"),
        ("    edgeforge nodes", "edgeforge has no command nodes"),
        ("    edgeforge up --detached", "edgeforge up has no option --detached"),
        ("    x && edgeforge-agent enrol --config F", "edgeforge-agent has no command enrol"),
        ("    /opt/edgeforge/bin/edgeforge-agent server", "edgeforge-agent has no command server"),
        ("    edgeforge model import ./a --nam x", "edgeforge model import has no option --nam"),
        ("    edgeforge node ls | head", ""),
        ("    edgeforge --profile list node ls   # list", ""),
        ("    edgeforge node drain|cordon NODE", ""),
        ("`edgeforge` `edgeforge model import PATH`", ""),
        ("    edgeforge pop create ...", ""),
    ],
)
def test_a_wrong_command_line_is_found(line, fault):
    found = [one for words in command_lines(line) if (one := fault_of(words))]
    assert found == ([fault] if fault else [])
