"""What the build makes of a module before it compiles it: the same module to its users."""

from __future__ import annotations

import ast
import dataclasses

import pytest

from tests.support.wheels import ROOT, run_module, wheel_module

MODULE = '''"""A module."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

LIMIT = 3
_NAMES: frozenset[str] = frozenset({"a"})


@dataclass(frozen=True, slots=True)
class Frozen:
    """Two fields, and one that is computed."""

    first: int
    second: str = "b"
    hidden: list[int] = field(default_factory=list, repr=False, compare=False)


@dataclass(slots=True)
class Mutable:
    """With what dataclasses can do."""

    first: int
    #: A list of its own.
    many: list[int] = field(
        default_factory=lambda: [LIMIT],
    )
    path: str = field(init=False)

    def __post_init__(self) -> None:
        self.path = str(self.first)


@dataclass(slots=True, eq=False)
class ById:
    """Compared by identity."""

    first: int


@dataclass(frozen=True, slots=True, order=True)
class Ordered:
    """Ordered by its fields."""

    first: int
    second: int = 0
'''


def modules() -> list[str]:
    return wheel_module("build_wheels").compiled_modules()


@pytest.fixture(scope="module", params=["source", "rewritten"])
def made(request):
    """The module above as it is, and as the build rewrites it: both must do the same."""
    rewrite = wheel_module("native_classes").rewrite
    text = rewrite(MODULE) if request.param == "rewritten" else MODULE
    return run_module(f"made_{request.param}", text)


def test_values_are_compared_hashed_and_shown_by_their_fields(made):
    frozen = made["Frozen"]
    assert frozen(1) == frozen(1, "b", [9])
    assert frozen(1) != frozen(2)
    assert frozen(1) != 1
    assert hash(frozen(1)) == hash(frozen(1))
    assert repr(frozen(1, second="c")) == "Frozen(first=1, second='c')"


def test_defaults_are_made_anew_and_post_init_runs(made):
    one, other = made["Mutable"](1), made["Mutable"](1)
    one.many.append(4)
    assert (one.many, other.many, one.path) == ([3, 4], [3], "1")
    with pytest.raises(TypeError):
        hash(one)


def test_identity_order_replace_and_asdict(made):
    by_id, ordered = made["ById"], made["Ordered"]
    assert by_id(1) != by_id(1)
    assert len({by_id(1), by_id(1)}) == 2
    assert sorted([ordered(2), ordered(1, 5), ordered(1)])[0] == ordered(1)
    assert made["replace"](ordered(1), second=7) == ordered(1, 7)
    assert made["asdict"](ordered(1)) == {"first": 1, "second": 0}
    assert [one.name for one in dataclasses.fields(ordered)] == ["first", "second"]


def test_arguments_that_are_missing_or_unknown_are_refused(made):
    with pytest.raises(TypeError):
        made["Frozen"]()
    with pytest.raises(TypeError):
        made["Frozen"](1, third=3)


@pytest.mark.parametrize("path", modules())
def test_no_line_of_a_compiled_module_moves(path: str):
    """Tracebacks of the compiled build name the lines of the source."""
    text = (ROOT / path).read_text(encoding="utf-8")
    before, after = (_lines(one) for one in (text, wheel_module("native_classes").rewrite(text)))
    assert before.items() <= after.items()


def test_a_name_for_two_kinds_of_errors_is_refused():
    text = "def f():\n  try: g()\n  except KeyError as e: pass\n  except OSError as e: pass\n"
    with pytest.raises(
        wheel_module("native_classes").NotSupported, match="line 4: e is of another"
    ):
        wheel_module("native_classes").rewrite(text)


@pytest.mark.parametrize("kind", ["dataclass(kw_only=True)\nclass A:", "dataclass\nclass A(B):"])
def test_what_is_not_known_is_refused(kind: str):
    with pytest.raises(wheel_module("native_classes").NotSupported):
        wheel_module("native_classes").rewrite(f"@{kind}\n    x: int\n")


def _lines(text: str) -> dict[str, int]:
    """Return where each function and class of a module begins."""
    found = {}

    def look(node: ast.AST, inside: str) -> None:
        for below in ast.iter_child_nodes(node):
            name = inside
            if isinstance(below, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{inside}.{below.name}"
                found.setdefault(name, below.lineno)
            look(below, name)

    look(ast.parse(text), "")
    return found
