"""Rewrites a module for mypyc: dataclasses become native classes, module constants ``Final``.

mypyc leaves a dataclass the methods that Python writes for it, which are interpreted, and
evaluates the annotations of its fields when the class is made, though their names may be imported
for checking only. So each gets a constructor, comparison and hash of its own; behind the module
``as_dataclass`` gives it back what ``replace``, ``asdict`` and ``repr`` need.

No line moves: what is generated stands on lines that were free, so that tracebacks of the compiled
build name the lines of the source.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from dataclasses import field as dataclass_field

#: Written beside the sources by the build.
RUNTIME_MODULE = "protos.native_dataclass"
_FUTURE = "from __future__ import annotations"
_OPTIONS = {"frozen", "slots", "order", "eq"}
_FLAGS = ("init", "repr", "compare")
#: A single letter is a type variable.
_CONSTANT = re.compile("_?[A-Z][A-Z0-9_]+")
#: Functions for dataclasses, which the checker no longer takes these classes for.
_UNTYPED = {"asdict", "replace"}


class NotSupported(Exception):
    """A construct that this rewriting does not know."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    annotation: str
    #: Expression of the default, evaluated at each call where ``fresh``.
    default: str | None = None
    fresh: bool = False
    #: Those of init, repr and compare that are off.
    off: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Lines:
    """A module's lines, of which none may move."""

    lines: list[str]
    footer: list[str] = dataclass_field(default_factory=list)

    def replace(self, node: ast.stmt | ast.expr, new: str) -> None:
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        if "\n" in new:
            raise NotSupported(f"line {node.lineno}: {new!r} needs more than one line")
        self.lines[first] = new
        for number in range(first + 1, last + 1):
            self.lines[number] = ""


def rewrite(text: str) -> str:
    """Return the module ``text`` as mypyc compiles it best. Raises: NotSupported."""
    tree = ast.parse(text)
    _check_handlers(tree)
    out = _Lines(text.split("\n"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            decorator = next((one for one in node.decorator_list if _is_dataclass(one)), None)
            if decorator is not None:
                _rewrite_class(node, decorator, out)
    for constant in _constants(tree):
        _rewrite_constant(constant, out)
    _rewrite_imports(tree, out)
    return "\n".join([*out.lines, *out.footer, ""])


def _is_dataclass(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called) in ("dataclass", "dataclasses.dataclass")


def _check_handlers(tree: ast.Module) -> None:
    """Raises: NotSupported for a name that stands for two kinds of errors in one function.

    mypyc gives it the type of the first, and fails when the other one comes.
    """
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        kinds: dict[str, str] = {}
        for handler in ast.walk(function):
            if isinstance(handler, ast.ExceptHandler) and handler.name and handler.type:
                kind = ast.unparse(handler.type)
                if kinds.setdefault(handler.name, kind) != kind:
                    raise NotSupported(f"line {handler.lineno}: {handler.name} is of another type")


# -- imports


def _rewrite_imports(tree: ast.Module, out: _Lines) -> None:
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.module == "__future__":
            out.replace(node, f"{_FUTURE}; from typing import Any, Final")
        elif node.module == "dataclasses":
            out.replace(node, _dataclass_import(node, uses_runtime=bool(out.footer)))


def _dataclass_import(node: ast.ImportFrom, *, uses_runtime: bool) -> str:
    names = {alias.name for alias in node.names}
    kept = sorted(names - {"dataclass", "field", *_UNTYPED})
    ours = ["as_dataclass"] if uses_runtime else []
    ours += sorted(names & _UNTYPED)
    imports = [f"from {RUNTIME_MODULE} import {', '.join(ours)}"] if ours else []
    imports += [f"from dataclasses import {', '.join(kept)}"] if kept else []
    return "; ".join(imports)


# -- constants


def _constants(tree: ast.Module) -> list[ast.Assign | ast.AnnAssign]:
    """Return the module's constants: mypyc reads those that are Final without a look-up."""
    stored: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            stored[node.id] = stored.get(node.id, 0) + 1
    found = []
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            target = _target(statement)
            is_constant = target is not None and _CONSTANT.fullmatch(target.id) is not None
            if target is None or not (is_constant or target.id in ("_log", "_field")):
                continue
            if stored[target.id] == 1 and not _is_lost(statement.value):
                found.append(statement)
    return found


def _target(statement: ast.Assign | ast.AnnAssign) -> ast.Name | None:
    target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
    return target if isinstance(target, ast.Name) else None


def _is_lost(value: ast.expr) -> bool:
    """Whether mypyc 2.4 would forget a Final of ``value``: a tuple, whose items are unboxed."""
    return isinstance(value, ast.Tuple)


def _rewrite_constant(node: ast.Assign | ast.AnnAssign, out: _Lines) -> None:
    target = _target(node)
    assert target is not None
    kind, end = "Final", target
    if isinstance(node, ast.AnnAssign):
        kind, end = f"Final[{ast.unparse(node.annotation)}]", node.annotation
    if end.end_lineno != target.lineno or end.end_col_offset is None:
        raise NotSupported(f"line {node.lineno}: an annotation on several lines")
    rest = out.lines[target.lineno - 1].encode()[end.end_col_offset :].decode()
    out.lines[target.lineno - 1] = f"{target.id}: {kind}{rest}"


# -- classes


def _rewrite_class(node: ast.ClassDef, decorator: ast.expr, out: _Lines) -> None:
    if node.bases:
        raise NotSupported(f"line {node.lineno}: a dataclass with bases")
    options = _options(decorator)
    fields = [_read_field(one) for one in node.body if _is_field(one)]
    for statement in node.body:
        if _is_field(statement):
            assert isinstance(statement, ast.AnnAssign)
            indent = " " * statement.col_offset
            out.replace(
                statement, f"{indent}{ast.unparse(statement.target)}: {_annotation(statement)}"
            )
    out.replace(decorator, "")
    _place(node, _methods(node, fields, options), out)
    flags = {one.name: dict.fromkeys(sorted(one.off), False) for one in fields}
    said = ", ".join(f"{name}={options[name]}" for name in ("frozen", "order", "eq"))
    out.footer.append(f"as_dataclass({node.name}, {flags!r}, {said})")


def _options(decorator: ast.expr) -> dict[str, bool]:
    given = decorator.keywords if isinstance(decorator, ast.Call) else []
    options = {"frozen": False, "order": False, "eq": True}
    for keyword in given:
        if keyword.arg not in _OPTIONS or not isinstance(keyword.value, ast.Constant):
            raise NotSupported(f"line {decorator.lineno}: dataclass option {keyword.arg}")
        options[keyword.arg] = bool(keyword.value.value)
    return options


def _is_field(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and not _annotation(statement).startswith("ClassVar")
    )


def _annotation(statement: ast.AnnAssign) -> str:
    return ast.unparse(statement.annotation)


def _read_field(statement: ast.stmt) -> _Field:
    assert isinstance(statement, ast.AnnAssign)
    name, annotation, value = ast.unparse(statement.target), _annotation(statement), statement.value
    if value is None:
        return _Field(name, annotation)
    if not (
        isinstance(value, ast.Call) and ast.unparse(value.func) in ("field", "dataclasses.field")
    ):
        return _Field(name, annotation, ast.unparse(value))
    given = {keyword.arg: keyword.value for keyword in value.keywords}
    off = frozenset(
        one for one in _FLAGS if one in given and ast.unparse(given.pop(one)) == "False"
    )
    default = given.pop("default", None)
    factory = given.pop("default_factory", None)
    if given:
        raise NotSupported(f"line {statement.lineno}: field option {sorted(map(str, given))}")
    if isinstance(factory, ast.Lambda):
        return _Field(name, annotation, ast.unparse(factory.body), True, off)
    if factory is not None:
        return _Field(name, annotation, f"{ast.unparse(factory)}()", True, off)
    return _Field(name, annotation, None if default is None else ast.unparse(default), False, off)


def _methods(node: ast.ClassDef, fields: list[_Field], options: dict[str, bool]) -> list[str]:
    """Return the methods that a dataclass has, a line each."""
    own = {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
    methods = [_constructor(fields, calls_post_init="__post_init__" in own)]
    compared = [one.name for one in fields if "compare" not in one.off]
    if options["eq"] and "__eq__" not in own:
        same = " and ".join(f"self.{name} == other.{name}" for name in compared) or "True"
        methods.append(
            "def __eq__(self, other: object) -> Any: return True if self is other else "
            f"bool({same}) if isinstance(other, {node.name}) else NotImplemented"
        )
        if options["frozen"] and "__hash__" not in own:
            values = "".join(f"self.{name}, " for name in compared)
            methods.append(f"def __hash__(self) -> int: return hash(({values}))")
    return methods


def _constructor(fields: list[_Field], *, calls_post_init: bool) -> str:
    arguments, body = ["self"], []
    for one in fields:
        value = one.name
        if "init" in one.off:
            if one.default is None:
                continue  # __post_init__ sets it
            value = one.default
        elif one.fresh:
            arguments.append(f"{one.name}: {one.annotation} | None = None")
            value = f"{one.default} if {one.name} is None else {one.name}"
        elif one.default is not None:
            arguments.append(f"{one.name}: {one.annotation} = {one.default}")
        else:
            arguments.append(f"{one.name}: {one.annotation}")
        body.append(f"self.{one.name} = {value}")
    if calls_post_init:
        body.append("self.__post_init__()")
    return f"def __init__({', '.join(arguments)}) -> None: {'; '.join(body or ['pass'])}"


def _place(node: ast.ClassDef, methods: list[str], out: _Lines) -> None:
    """Put ``methods`` on the blank lines behind the class, then on those of its docstring."""
    pad = " " * node.body[0].col_offset
    assert node.end_lineno is not None
    behind = node.end_lineno
    at_end = not any(line.strip() for line in out.lines[behind:])
    if at_end:
        out.lines[behind:] = [pad + method for method in methods]
        return
    waiting = list(methods)
    while waiting and not out.lines[behind].strip():
        out.lines[behind] = pad + waiting.pop(0)
        behind += 1
    if waiting and ast.get_docstring(node) is not None:
        out.replace(node.body[0], pad + waiting.pop(0))
    if waiting:
        raise NotSupported(f"line {node.lineno}: no free line for a method of {node.name}")
