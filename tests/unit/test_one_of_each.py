"""What was written twice, and would drift: one of each is left in the product."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("agent", "coordinator", "protos")


@pytest.mark.parametrize(
    ("text", "home"),
    [
        ('ModelSource.EXTERNAL: "external"', "coordinator/core/plan_input.py"),
        ("hashlib.sha256(key.encode()", "protos/domain/routing_table.py"),
        ("row_digest(", "protos/domain/routing_table.py"),
        ("os.open(folder, os.O_RDONLY", "protos/host/files.py"),
        ("os.open(path.parent, os.O_RDONLY", None),
        ('execute(f"BEGIN', "coordinator/store/sqlite/connection.py"),
        ('execute("BEGIN IMMEDIATE', "agent/traces/ring.py"),
        ("hmac.compare_digest(presented", "coordinator/operations/secret_texts.py"),
    ],
    ids=[
        "engine kind of a model",
        "digest of a row",
        "digest of rows",
        "sync",
        "sync of a parent",
        "transaction",
        "transaction of the agent",
        "proof of a secret",
    ],
)
def test_it_is_in_one_module(text: str, home: str | None) -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if text in path.read_text(encoding="utf-8")
    ]
    assert found == ([home] if home else [])
