"""Secrets in fields are not in the text of their objects, which may reach a log or an error."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECRET = re.compile(r"(?:^|_)(?:secret|token|password|api_key|secret_access_key|invitation)$")


def shown_secrets(tree: ast.Module) -> Iterator[str]:
    """Yield fields of classes that hold a secret's text and are part of ``repr``."""
    for kind in ast.walk(tree):
        if not isinstance(kind, ast.ClassDef):
            continue
        for field in kind.body:
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and SECRET.search(field.target.id)
                and ast.unparse(field.annotation) in {"str", "bytes", "str | None", "bytes | None"}
                and "repr=False" not in ast.unparse(field)
            ):
                yield f"{kind.name}.{field.target.id}"


MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for room in ("agent", "coordinator", "protos")
    for path in (ROOT / room).rglob("*.py")
    if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
)


def test_no_object_shows_its_secret():
    shown = {
        f"{name}: {field}"
        for name in MODULES
        for field in shown_secrets(ast.parse((ROOT / name).read_text(encoding="utf-8")))
    }
    assert sorted(shown) == []


@pytest.mark.parametrize(
    "text",
    ["class A:\n    token: str", "class A:\n    client_secret: str = ''"],
)
def test_a_secret_that_is_shown_is_found(text):
    assert list(shown_secrets(ast.parse(text)))
