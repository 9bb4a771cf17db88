"""Reads a configuration into dataclasses, one for each section, from a file and an environment.

All mistakes are collected before any is reported, so that an operator corrects them at once. Pure:
the caller passes in the parsed file and the environment.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from protos.domain.errors import ConfigInvalid

T = TypeVar("T")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def setting(
    default: object = dataclasses.MISSING,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:  # noqa: ANN401 - as dataclasses.field, it is used as a default
    """Declare a configuration field with its bounds (inclusive) or its choices."""
    limits = {"at_least": at_least, "at_most": at_most, "choices": choices}
    return dataclasses.field(default=default, metadata=limits)


def tcp_port(default: int) -> Any:  # noqa: ANN401 - used as a default
    """Declare a TCP port; 0 lets the kernel choose."""
    return setting(default, at_least=0, at_most=65_535)


def published_port(default: int) -> Any:  # noqa: ANN401 - used as a default
    """Declare a TCP port that is published to others, so that 0 is not allowed."""
    return setting(default, at_least=1, at_most=65_535)


def read_settings(
    kind: type[T], parsed: Mapping[str, object], environ: Mapping[str, str], env_prefix: str
) -> T:
    """Return ``kind``, a dataclass whose fields are dataclasses of settings, one a section.

    A variable ``<env_prefix>__<SECTION>__<KEY>`` replaces the key of the file.
    Raises: ConfigInvalid naming every mistake.
    """
    hints = typing.get_type_hints(kind)
    sections = {field.name: hints[field.name] for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    problems = [
        f"unknown section [{name}]{_nearest(name, sections)}"
        for name in parsed
        if name not in sections
    ]
    overrides = _overrides(environ, env_prefix, sections, problems)
    values = {}
    for name, section in sections.items():
        given = parsed.get(name, {})
        if not isinstance(given, Mapping):
            problems.append(f"[{name}] must be a table of keys")
            given = {}
        values[name] = _read_section(name, section, given, overrides[name], problems)
    if problems:
        raise ConfigInvalid(problems)
    return kind(**values)


def _overrides(
    environ: Mapping[str, str],
    prefix: str,
    sections: Mapping[str, type],
    problems: list[str],
) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {name: {} for name in sections}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(prefix + "__"):
            continue
        section, _, key = variable[len(prefix) + 2 :].lower().partition("__")
        if section not in sections or not key:
            problems.append(f"{variable}: no such section{_nearest(section, sections)}")
            continue
        found[section][key] = text
    return found


def _read_section(
    name: str,
    section: type,
    given: Mapping[str, object],
    overrides: Mapping[str, str],
    problems: list[str],
) -> object:
    hints = typing.get_type_hints(section)
    fields = {field.name: field for field in dataclasses.fields(section)}
    problems.extend(
        f"{name}.{key}: unknown key{_nearest(key, fields)}"
        for key in [*given, *overrides]
        if key not in fields
    )
    values: dict[str, object] = {}
    for key, field in fields.items():
        where = f"{name}.{key}"
        try:
            if key in overrides:
                value = _from_text(overrides[key], hints[key])
            elif key in given:
                value = _from_toml(given[key], hints[key])
            elif field.default is dataclasses.MISSING:
                raise ValueError("is required")
            else:
                continue
            _check_limits(value, field.metadata)
        except ValueError as error:
            problems.append(f"{where}: {error}")
        else:
            values[key] = value
    if problems:
        return None
    return section(**values)


def _from_text(text: str, kind: object) -> object:
    kind = _not_none(kind)
    if kind is bool:
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise ValueError(f"{text!r} is neither true nor false")
    if kind is int or kind is float:
        try:
            return int(text) if kind is int else float(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a number") from None
    if kind is str:
        return text
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _from_toml(value: object, kind: object) -> object:
    kind = _not_none(kind)
    if kind is bool or isinstance(value, bool):
        if kind is bool and isinstance(value, bool):
            return value
        raise ValueError(f"{value!r} is not {_words(kind)}")
    if kind is float and isinstance(value, int):
        return float(value)
    if kind is int or kind is float or kind is str:
        if type(value) is kind:
            return value
        raise ValueError(f"{value!r} is not {_words(kind)}")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError(f"{value!r} is not {_words(kind)}")


def _check_limits(value: object, limits: Mapping[str, Any]) -> None:
    if any(isinstance(one, str) and "\0" in one for one in _each(value)):
        raise ValueError("has a NUL character")
    at_least, at_most = limits.get("at_least"), limits.get("at_most")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value != value:
            raise ValueError("is not a number")
        if at_least is not None and value < at_least:
            raise ValueError(f"{value} is below {at_least}")
        if at_most is not None and value > at_most:
            raise ValueError(f"{value} is above {at_most}")
    choices = limits.get("choices")
    if choices and value not in choices:
        raise ValueError(f"{value!r} is none of {', '.join(choices)}")


def _each(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def _not_none(kind: object) -> object:
    if isinstance(kind, types.UnionType):
        (kind,) = [part for part in typing.get_args(kind) if part is not type(None)]
    return kind


def _words(kind: object) -> str:
    return _WORDS[kind] if isinstance(kind, type) and kind in _WORDS else "a list of texts"


def _nearest(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
