"""Shapes that an imported JSON file must have: every key known, every string of a known kind.

A string is one of a list, a short pattern, or a text that is only ever shown to a model; so a value
that names a path, an address, a repository or a class has no place. Null is allowed everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from protos.domain.errors import InvalidRequest
from protos.domain.model_folder import DROPPED_KEYS

_MAX_NUMBER: Final = 1e31
_MAX_SHOWN_CHARS: Final = 60
#: One character before it is enough: a scheme of any length is searched in quadratic time.
_ADDRESS: Final = re.compile(r"[A-Za-z0-9+.-]://")
_NAMES_PLACE: Final = re.compile(r"path|file|folder|dir(ectory)?$|repo|url|uri|name_or|model$|hub")
_NAMES_CODE: Final = re.compile(r"class|module|auto_map|custom_|code|plugin|processor|_type$")
_DROP_HINT: Final = "edgeforge model import leaves it out; send the file as that command does"
_REMOVE_HINT: Final = "remove it from the file, and import again"


class Shape(Protocol):
    """What a value may be."""

    def check(self, value: object, at: str) -> None:
        """Refuse what ``value``, found ``at``, may not be. Raises: InvalidRequest."""


def check_shape(shape: Shape, value: object, at: str) -> None:
    """Refuse a value that is not of ``shape``; null is of every shape. Raises: InvalidRequest."""
    if value is not None:
        shape.check(value, at)


@dataclass(frozen=True, slots=True)
class Numbers:
    """A number, true or false, or a flat list of them."""

    max_items: int = 4_096
    at_most: float = _MAX_NUMBER

    def check(self, value: object, at: str) -> None:
        items = value if isinstance(value, list) else [value]
        if len(items) > self.max_items:
            raise InvalidRequest(
                f"{at} has {len(items)} numbers, {self.max_items} are allowed", _REMOVE_HINT
            )
        for item in items:
            if item is None:
                continue
            if not isinstance(item, (int, float)):
                raise _unfit(at, item, "a number")
            if not abs(item) <= self.at_most:
                raise InvalidRequest(
                    f"{at} is {_shown(item)}, at most {self.at_most:g} is allowed", _REMOVE_HINT
                )


@dataclass(frozen=True, slots=True)
class Words:
    """One of some words."""

    allowed: frozenset[str]

    def check(self, value: object, at: str) -> None:
        if not isinstance(value, str) or value not in self.allowed:
            raise _unfit(at, value, "one of " + ", ".join(sorted(self.allowed)))


def words(text: str) -> Words:
    """Return the shape of one of the words of ``text``."""
    return Words(frozenset(text.split()))


def each(keys: str, shape: Shape) -> dict[str, Shape]:
    """Return ``shape`` for each of the words of ``keys``."""
    return dict.fromkeys(keys.split(), shape)


@dataclass(frozen=True, slots=True)
class Matching:
    """A string that a pattern describes from its start to its end."""

    pattern: re.Pattern[str]
    what: str
    max_chars: int = 200

    def check(self, value: object, at: str) -> None:
        fits = isinstance(value, str) and len(value) <= self.max_chars
        if not (fits and self.pattern.fullmatch(str(value))):
            raise _unfit(at, value, self.what)


#: A version of a library.
VERSION: Final = Matching(re.compile(r"\d[0-9A-Za-z.+-]{0,39}", re.ASCII), "a version")


@dataclass(frozen=True, slots=True)
class Text:
    """Any text: of a token, or of a template that is tried before it is used."""

    max_chars: int

    def check(self, value: object, at: str) -> None:
        if not isinstance(value, str):
            raise _unfit(at, value, "a text")
        if len(value) > self.max_chars:
            raise InvalidRequest(
                f"{at} has {len(value)} characters, {self.max_chars} are allowed", _REMOVE_HINT
            )


@dataclass(frozen=True, slots=True)
class Nothing:
    """Null, false, or an empty list, object or text: keys that exports write without a value."""

    def check(self, value: object, at: str) -> None:
        if value not in (None, False, "", [], {}):
            raise _unknown(at, re.split(r"[.: ]", at)[-1], value)


@dataclass(frozen=True, slots=True)
class Many:
    """A list of values of one shape."""

    shape: Shape
    max_items: int = 4_096

    def check(self, value: object, at: str) -> None:
        if not isinstance(value, list):
            raise _unfit(at, value, "a list")
        if len(value) > self.max_items:
            raise InvalidRequest(
                f"{at} has {len(value)} items, {self.max_items} are allowed", _REMOVE_HINT
            )
        for index, item in enumerate(value):
            check_shape(self.shape, item, f"{at}[{index}]")


@dataclass(frozen=True, slots=True)
class Named:
    """An object whose keys are data of a stated form: numbers of tokens, names of groups."""

    keys: Matching | Text
    shape: Shape
    max_items: int = 4_096

    def check(self, value: object, at: str) -> None:
        if not isinstance(value, Mapping):
            raise _unfit(at, value, "an object")
        if len(value) > self.max_items:
            raise InvalidRequest(
                f"{at} has {len(value)} keys, {self.max_items} are allowed", _REMOVE_HINT
            )
        for key, item in value.items():
            self.keys.check(key, f"a key of {at}")
            check_shape(self.shape, item, f"{at}.{_shown(key)}")


@dataclass(frozen=True, slots=True)
class Fields:
    """An object with known keys only."""

    shapes: Mapping[str, Shape]

    def check(self, value: object, at: str) -> None:
        if not isinstance(value, Mapping):
            raise _unfit(at, value, "an object")
        for key, item in value.items():
            shape = self.shapes.get(key)
            inner = f"{at}: {_shown(key)}" if at.endswith(".json") else f"{at}.{_shown(key)}"
            if shape is None:
                raise _unknown(inner, key, item)
            check_shape(shape, item, inner)


@dataclass(frozen=True, slots=True)
class Either:
    """A value of one of two shapes, told apart by its JSON type."""

    kinds: tuple[type, ...]
    then: Shape
    otherwise: Shape

    def check(self, value: object, at: str) -> None:
        shape = self.then if isinstance(value, self.kinds) else self.otherwise
        shape.check(value, at)


def _too_many(at: str, count: int, what: str, most: int) -> InvalidRequest:
    return InvalidRequest(f"{at} has {count} {what}, {most} are allowed", _REMOVE_HINT)


def _unfit(at: str, value: object, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"{at} is {_shown(value)}, {wanted} is allowed", _REMOVE_HINT)


def _unknown(at: str, key: str, value: object) -> InvalidRequest:
    """Return the refusal of a key that has no place, by the kind of what it names."""
    if isinstance(value, str) and _ADDRESS.search(value):
        what = f"names an address, {_shown(value)}"
    elif _NAMES_PLACE.search(key) or (isinstance(value, str) and "/" in value):
        what = "names a path or a repository"
    elif _NAMES_CODE.search(key):
        what = "names a class or code"
    else:
        what = "is not a key that this family of models is served with"
    return InvalidRequest(f"{at} {what}", _DROP_HINT if key in DROPPED_KEYS else _REMOVE_HINT)


def _shown(value: object) -> str:
    if isinstance(value, str):
        plain = value.isascii() and re.fullmatch(r"[\w.-]+", value)
        return value[:_MAX_SHOWN_CHARS] if plain else ascii(value[:_MAX_SHOWN_CHARS])
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return str(value).lower()[:_MAX_SHOWN_CHARS]
