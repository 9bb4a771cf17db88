"""Finds where a name is still held in the memory of the coordinator's parts."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Mapping
from typing import Any

from coordinator.store.store import Store

_CONTAINERS = (list, tuple, set, frozenset, deque)
#: Not memory of the coordinator's own parts: the store, and what functions close over.
_FOREIGN = (Store, types.FunctionType, types.MethodType, type, types.ModuleType)


def mentions(name: str, *roots: object) -> list[str]:
    """Return the paths below ``roots`` at which ``name`` is a key, an element or a field."""
    found: list[str] = []
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [(type(root).__name__, root) for root in roots]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            if value == name:
                found.append(path)
            continue
        if id(value) in seen or isinstance(value, _FOREIGN):
            continue
        seen.add(id(value))
        waiting += [(f"{path}.{label}", part) for label, part in _parts(value)]
    return sorted(found)


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"key {key}", key) for key in value] + [
            (f"[{key}]", item) for key, item in value.items()
        ]
    if isinstance(value, _CONTAINERS):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    if not type(value).__module__.startswith(("coordinator.", "protos.domain.")):
        return []
    fields = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    fields += list(getattr(value, "__dict__", {}))
    return [(name, getattr(value, name)) for name in fields if hasattr(value, name)]
