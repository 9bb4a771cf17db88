"""``edgeforge-agent usage``: records that stay on this host, shown without its agent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli import app
from agent.spool.disk import Disk
from agent.spool.kept import KeptRecords, read_kept
from agent.spool.space import Space
from protos.wire.usage import encode_record
from tests.support.usage_records import usage_record

SPOOL, OTHER = "ab" * 16, "cd" * 16
DAY_MS = 86_400_000
NOW = 1_790_000_000_000


def kept(folder: Path, quota_bytes: int = 1 << 30) -> KeptRecords:
    return KeptRecords(Space(folder, quota_bytes), 90, Disk())


def payload(number: int, **changes: object) -> bytes:
    return encode_record(usage_record(trace_id=f"{number:032x}", zones=("BR",), **changes))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(f'[node]\nstate_dir = "{tmp_path}"\n')
    return path


def test_kept_records_are_printed_once_each(tmp_path: Path, config: Path):
    folder = tmp_path / "usage"
    kept(folder).keep(SPOOL, [(1, payload(1)), (2, payload(2))], NOW)
    kept(folder).keep(SPOOL, [(2, payload(2)), (3, payload(3))], NOW)  # after a crash
    kept(folder).keep(OTHER, [(1, payload(4)), (2, b"\xff")], NOW + DAY_MS)
    done = CliRunner().invoke(app, ["usage", "--config", str(config), "--json"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row.get("trace_id") for row in rows] == [*(f"{n:032x}" for n in (1, 2, 3, 4)), None]
    assert rows[0]["nano_usd"] == usage_record().nano_usd
    assert rows[0]["zones"] == ["BR"]
    assert rows[-1] == {"spool": OTHER, "seq": 2, "error": "written by a newer agent"}
    table = CliRunner().invoke(app, ["usage", "--config", str(config), "--limit", "2"])
    assert table.stdout.count("acme/chat") == 1
    assert "written by a newer agent" in table.stdout


def test_without_kept_records_it_says_so(tmp_path: Path, config: Path):
    done = CliRunner().invoke(app, ["usage", "--config", str(config)])
    assert "no record is kept here" in done.stdout
    assert CliRunner().invoke(app, ["usage", "--config", str(config), "--json"]).stdout == ""


def test_kept_records_go_after_their_days(tmp_path: Path):
    records = kept(tmp_path)
    for day in (0, 50, 91, 140):
        records.keep(SPOOL, [(day + 1, payload(day))], NOW + day * DAY_MS)
    assert [seq for _spool, seq, _payload in read_kept(tmp_path)] == [51, 92, 141]


def test_the_oldest_kept_records_go_when_there_are_too_many(tmp_path: Path, caplog):
    records = kept(tmp_path, quota_bytes=20_000)
    for day in range(10):
        records.keep(SPOOL, [(day * 10 + n, payload(n)) for n in range(1, 11)], NOW + day * DAY_MS)
    first = next(read_kept(tmp_path))[1]
    assert first > 1
    assert sum(path.stat().st_size for path in (tmp_path / "kept").iterdir()) < 13_000
    assert "before their time" in caplog.text
