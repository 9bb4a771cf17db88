"""Documentation that machines can check: commands, configuration keys, test modules, test names."""

from __future__ import annotations

import ast
import dataclasses
import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import agent.cli
import agent.config
import coordinator.cli.main
import coordinator.config
import coordinator.daemon

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


# --- commands ---


def commands(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield every command that can be run, with the words that run it.

    By shape, not by class: typer brings its own copy of click.
    """
    if hasattr(command, "commands"):
        if command.invoke_without_command and words.count(" "):
            yield words, command  # a group that does something by itself
        for name, below in command.commands.items():
            if not below.hidden:
                yield from commands(f"{words} {name}", below)
    else:
        yield words, command


PROGRAMS = {
    "edgeforge": coordinator.cli.main.app,
    "edgeforge-coordinator": coordinator.daemon.app,
    "edgeforge-agent": agent.cli.app,
}
COMMANDS = [
    pytest.param(words, command, id=words)
    for program, app in PROGRAMS.items()
    for words, command in commands(program, typer.main.get_command(app))
]


FIRST_WORDS = {parameter.id.split()[1] for parameter in COMMANDS}


def sources() -> Iterator[Path]:
    for room in ("agent", "coordinator", "protos", "packaging"):
        for path in (ROOT / room).rglob("*"):
            if path.is_file() and path.suffix in {".py", ".service", ".sh", ""}:
                yield path


def section_of(words: str) -> str:
    """Return what docs/CLI.md says under the heading of a command."""
    found = re.search(
        rf"^### `{re.escape(words)}\b(?P<usage>[^`\n]*)`\n(?P<body>.*?)(?=^##|\Z)",
        text_of("CLI.md"),
        re.MULTILINE | re.DOTALL,
    )
    assert found, f"docs/CLI.md has no heading ### `{words} ...`"
    return found["usage"] + found["body"]


@pytest.mark.parametrize(("words", "command"), COMMANDS)
def test_every_command_and_option_is_documented(words, command):
    section = section_of(words)
    options = {
        name
        for parameter in command.params
        if parameter.param_type_name == "option" and not parameter.hidden
        for name in parameter.opts
        if name.startswith("--") and name != "--help"
    }
    missing = sorted(option for option in options if not re.search(rf"{option}(?![a-z-])", section))
    assert not missing, f"{words}: {missing} are not in docs/CLI.md"
    assert command.help, f"{words} --help teaches nothing"


def test_no_documented_command_has_gone():
    known = {parameter.id for parameter in COMMANDS}
    headings = re.findall(r"^### `(edgeforge[^`]*)`$", text_of("CLI.md"), re.MULTILINE)
    for heading in headings:
        assert any(heading == words or heading.startswith(words + " ") for words in known), heading


def test_commands_that_are_named_anywhere_exist():
    """In documentation and in the hints of errors: a next step that does not exist is no help."""
    known = {parameter.id for parameter in COMMANDS}
    groups = {words.rsplit(" ", depth)[0] for words in known for depth in (1, 2)}
    wrong = []
    for path in [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *sources()]:
        text = path.read_text(encoding="utf-8")
        for named in re.findall(
            r"\bedgeforge(?:-agent|-coordinator)?(?: [a-z]+(?:-[a-z]+)*){1,3}", text
        ):
            words = named.split()
            starts = {" ".join(words[:length]) for length in range(1, len(words) + 1)}
            if words[1] in FIRST_WORDS and not starts & known and named not in groups:
                wrong.append(f"{path.relative_to(ROOT)}: {named}")
    assert wrong == []


# --- configuration ---


def documented_keys(file_name: str) -> dict[str, tuple[str, str]]:
    """Return ``section.key`` -> default and allowed, as docs/CONFIG.md says."""
    part = re.search(
        rf"^## {re.escape(file_name)}\n(.*?)(?=^## |\Z)",
        text_of("CONFIG.md"),
        re.MULTILINE | re.DOTALL,
    )
    assert part
    found = {}
    for section in re.split(r"^### ", part[1], flags=re.MULTILINE)[1:]:
        name = section[1 : section.index("]")]
        for key, default, allowed in re.findall(
            r"^\| `(\w+)` \| (\S+) \| ([^|]*)\|", section, re.MULTILINE
        ):
            found[f"{name}.{key}"] = (default, allowed.strip())
    return found


def declared_keys(kind: type) -> dict[str, dataclasses.Field[object]]:
    hints = typing.get_type_hints(kind)
    return {
        f"{section.name}.{field.name}": field
        for section in dataclasses.fields(kind)
        for field in dataclasses.fields(hints[section.name])
    }


def bounds(text: str) -> tuple[float | None, float | None]:
    low, _, high = text.partition("..")
    return (float(low) if low else None, float(high) if high else None)


CONFIGURATIONS = [
    ("agent.toml", agent.config.AgentConfig),
    ("coordinator.toml", coordinator.config.CoordinatorConfig),
]


@pytest.mark.parametrize(("file_name", "kind"), CONFIGURATIONS)
def test_every_configuration_key_is_documented(file_name, kind):
    assert sorted(documented_keys(file_name)) == sorted(declared_keys(kind))


@pytest.mark.parametrize(("file_name", "kind"), CONFIGURATIONS)
def test_documented_defaults_and_bounds_are_the_codes(file_name, kind):
    documented = documented_keys(file_name)
    for name, field in declared_keys(kind).items():
        default, allowed = documented[name]
        if field.default is dataclasses.MISSING:
            assert default == "required", name
        else:
            value = tomllib.loads(f"value = {default.strip('`')}")["value"]
            expected = list(field.default) if isinstance(field.default, tuple) else field.default
            assert value == expected, name
        choices = field.metadata.get("choices")
        if choices:
            assert allowed == ", ".join(choices), name
        else:
            declared = field.metadata.get("at_least"), field.metadata.get("at_most")
            assert bounds(allowed) == declared, name


@pytest.mark.parametrize(("file_name", "kind"), CONFIGURATIONS)
def test_configuration_fields_say_what_they_are_for(file_name, kind):
    """A field's ``#:`` comment may speak for those that follow it directly."""
    assert file_name
    source = Path(str(__import__(kind.__module__, fromlist=["_"]).__file__)).read_text()
    for section in typing.get_type_hints(kind).values():
        assert section.__doc__
    assert source.count("#:") > len(dataclasses.fields(kind))


# --- tests ---

ROOMS = {
    "agent": ROOT / "agent" / "core",
    "agent/formats": ROOT / "agent" / "formats",
    "coordinator": ROOT / "coordinator" / "core",
    "protos": ROOT / "protos" / "domain",
}


@pytest.mark.parametrize("room", ROOMS)
def test_every_pure_module_has_a_test_module_of_its_name(room):
    tested = {path.name for path in (ROOT / "tests" / "unit" / room).rglob("test_*.py")}
    modules = {path.stem for path in ROOMS[room].glob("*.py")} - {"__init__"}
    assert sorted(name for name in modules if f"test_{name}.py" not in tested) == []


def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text()) if file.exists() else ast.Module([], [])
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_every_test_named_in_the_documentation_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text_of("TESTING.md"))
    assert len(named) > 20
    functions = {path: functions_of(ROOT / path) for path in {path for path, _ in named}}
    assert [f"{path}::{name}" for path, name in named if name not in functions[path]] == []


def test_every_fault_of_every_table_names_a_test():
    tables = re.split(r"^### ", text_of("TESTING.md"), flags=re.MULTILINE)[1:]
    assert tables
    for table in tables:
        lines = re.findall(r"^\| \d+ \|.*$", table, re.MULTILINE)
        numbers = [int(line.split("|")[1]) for line in lines]
        assert numbers == list(range(1, len(lines) + 1)), table.splitlines()[0]
        for line in lines:
            assert "::test_" in line, line


# --- prose ---

PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]
)


def tables_of(text: str) -> Iterator[list[str]]:
    """Yield the tables of a page, each as its lines; code blocks are left out."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for found in re.finditer(r"(?:^\|.*\n)+", text + "\n", re.MULTILINE):
        yield found[0].splitlines()


def columns_of(row: str) -> int:
    return len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", row)))


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_whole(page):
    """Each has a head and its line, as many columns in every row, and no row twice."""
    for table in tables_of((ROOT / page).read_text(encoding="utf-8")):
        assert len(table) > 2, table
        assert re.fullmatch(r"\|(?:\s*:?-+:?\s*\|)+", table[1]), table[0]
        assert {columns_of(row) for row in table} == {columns_of(table[0])}, table[0]
        assert sorted(set(table)) == sorted(table), table[0]


def test_no_fault_is_listed_twice():
    rows = re.findall(r"^\| .*::test_.*$", text_of("TESTING.md"), re.MULTILINE)
    assert [row for row in set(rows) if rows.count(row) > 1] == []
    headings = re.findall(r"^#+ (.*)$", text_of("TESTING.md"), re.MULTILINE)
    assert [one for one in set(headings) if headings.count(one) > 1] == []


def test_every_decision_is_listed_in_order_under_its_title():
    listed = re.findall(
        r"^\| \[(\d{4})\]\((\S+)\) \|", text_of("decisions/README.md"), re.MULTILINE
    )
    pages = sorted(path.name for path in (DOCS / "decisions").glob("[0-9]*.md"))
    assert [name for _, name in listed] == pages
    for number, name in listed:
        assert text_of(f"decisions/{name}").startswith(f"# {number} "), name


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    """Any `folder/file` of ours in backticks; a name with <>, * or a command is not one."""
    text = (ROOT / page).read_text(encoding="utf-8")
    rooms = r"(?:agent|coordinator|protos|tests|docs|packaging)"
    for name in re.findall(rf"`({rooms}/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name
