"""No module imports itself through others; imports for type checking count."""

from __future__ import annotations

from collections.abc import Mapping, Set

import grimp
import pytest

PACKAGES = ("agent", "coordinator", "protos")


def circles_of(imports: Mapping[str, Set[str]]) -> list[list[str]]:
    """Return each largest group of modules that reach one another, sorted.

    What only imports, or is only imported by, modules outside a circle is peeled off first.
    """
    left = dict(imports)
    while True:
        imported = {name for names in left.values() for name in names}
        outside = [
            name for name, names in left.items() if name not in imported or not names & left.keys()
        ]
        if not outside:
            break
        for name in outside:
            del left[name]
    reachable = {name: _reachable(left, name) for name in left}
    groups = {
        frozenset(other for other in reached if name in reachable[other])
        for name, reached in reachable.items()
        if name in reached
    }
    return sorted(sorted(group) for group in groups)


def _reachable(imports: Mapping[str, Set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        for name in imports[waiting.pop()] & imports.keys():
            if name not in reached:
                reached.add(name)
                waiting.append(name)
    return reached


@pytest.mark.parametrize(
    ("imports", "circles"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"a"}}, [["a", "b"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}, [["b", "c"]]),
        ({"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}}, [["a", "b"], ["c", "d"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, [["a", "b", "c"]]),
    ],
)
def test_circles_are_found(imports, circles):
    assert circles_of(imports) == circles


def test_no_module_imports_itself_through_others():
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=False, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(imports) > 200, "the packages were not found"
    assert circles_of(imports) == [], "move what both need into a module below them"
