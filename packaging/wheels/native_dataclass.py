"""Makes native classes dataclasses for ``replace``, ``asdict``, ``fields`` and ``repr``.

Part of the compiled build only. They have their constructor, comparison and hash already.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

T = TypeVar("T")
_COPIED = ("__dataclass_fields__", "__dataclass_params__", "__match_args__")
_IF_FROZEN = ("__setattr__", "__delattr__")
_IF_ORDERED = ("__lt__", "__le__", "__gt__", "__ge__")


def as_dataclass(
    cls: type[Any], flags: dict[str, Any], *, frozen: bool, order: bool, eq: bool
) -> None:
    """Give ``cls`` what a dataclass with the fields of ``flags`` has beyond its own methods."""
    body: dict[str, Any] = {"__annotations__": dict.fromkeys(flags, "builtins.object")}
    body |= {name: dataclasses.field(**said) for name, said in flags.items() if said}
    decorate: Any = dataclasses.dataclass(init=False, frozen=frozen, order=order, eq=eq)
    made: Any = decorate(type(cls.__name__, (), body))
    own = () if "__repr__" in cls.__dict__ else ("__repr__",)
    names = [*_COPIED, *own, *(_IF_FROZEN if frozen else ()), *(_IF_ORDERED if order else ())]
    for name in names:
        setattr(cls, name, getattr(made, name))
    if eq and not frozen and "__hash__" not in cls.__dict__:
        cls.__hash__ = None  # type: ignore[assignment]


def replace(value: T, /, **changes: object) -> T:
    """Return ``dataclasses.replace``: the checker does not know these classes as dataclasses."""
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]


def asdict(value: object) -> dict[str, Any]:
    """Return ``dataclasses.asdict``."""
    return dataclasses.asdict(value)  # type: ignore[call-overload, no-any-return]
