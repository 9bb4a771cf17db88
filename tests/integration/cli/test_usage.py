"""Usage over the real listeners and commands: pushed, kept over a kill, shown, restored."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc import aio
from typer.testing import CliRunner

from coordinator.cli.main import app
from coordinator.clock import now_unix_ms
from protos.domain.usage_record import UsageRecord
from protos.v1 import usage_pb2
from protos.v1.usage_pb2_grpc import MeteringStub
from protos.wire.usage import encode_record
from tests.support.coordinator_process import CoordinatorProcess, Operator
from tests.support.scripted_agent import NodeIdentity, coordinator_options
from tests.support.usage_fleet import record

SPOOL = "a" * 32
#: What scripts read of each request.
KEYS = (
    *("trace_id", "account", "deployment", "status", "cause"),
    *("prompt_tokens", "cached_tokens", "completion_tokens"),
    *("tier_served", "tier_billed", "nano_usd", "card"),
)


class Fleet:
    """A coordinator with one node, whose records name what there is not."""

    def __init__(self, folder: Path) -> None:
        self.coordinator = CoordinatorProcess(folder, "[usage]\nraw_days = 1\n")
        self.coordinator.init_here()
        self.coordinator.start()
        self.node = asyncio.run(self._enrol())

    async def _enrol(self) -> NodeIdentity:
        operator = Operator(self.coordinator)
        await operator.create_pop()
        identity = await operator.enrol("gru-1")
        await operator.close()
        return identity

    def push(self, records: list[UsageRecord], first: int = 1, **fields) -> usage_pb2.UsageAck:
        """Push as the node does."""
        return asyncio.run(self._push(records, first, fields))

    async def _push(
        self, records: list[UsageRecord], first: int, fields: dict[str, object]
    ) -> usage_pb2.UsageAck:
        batch = usage_pb2.UsageBatch(
            spool_id=SPOOL,
            first_seq=first,
            last_seq=first + len(records) - 1,
            records=[
                usage_pb2.SpooledRecord(seq=first + place, record=encode_record(one))
                for place, one in enumerate(records)
            ],
            **fields,  # type: ignore[arg-type]
        )
        node = self.node
        credentials = grpc.ssl_channel_credentials(node.ca_pem, node.key_pem, node.certificate_pem)
        async with aio.secure_channel(
            self.coordinator.address("fleet"), credentials, coordinator_options()
        ) as channel:
            return await MeteringStub(channel).Push(batch)

    def ok(self, *arguments: object) -> str:
        """Run ``edgeforge`` in this process, and return its output."""
        profile = self.coordinator.operator_dir / "profile.toml"
        done = CliRunner().invoke(app, ["--profile", str(profile), *map(str, arguments)])
        assert done.exit_code == 0, done.output
        return done.stdout

    def shown(self) -> list[dict[str, object]]:
        """Return every request of the export."""
        lines = self.ok("usage", "export", "--json").splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    running = Fleet(tmp_path_factory.mktemp("usage"))
    yield running
    running.coordinator.stop()


def test_what_a_node_bills_of_a_fleet_that_never_was_is_held_shown_and_settled(fleet: Fleet):
    records = [replace(record(n), began_unix_ms=now_unix_ms()) for n in range(1, 4)]
    ack = fleet.push(records)
    assert (ack.watermark, ack.refused, ack.coordinator_zone) == (3, False, "")
    assert fleet.shown() == []
    held = json.loads(fleet.ok("usage", "quarantine", "--json"))
    assert [(row["seq"], row["node"], row["account"]) for row in held] == [
        (n, "gru-1", "acme") for n in range(1, 4)
    ]
    assert held[0]["reason"] == "there is no account 'acme'"
    assert held[0]["nano_usd"] == record().nano_usd
    assert "there is no account" in fleet.ok("usage", "quarantine")
    assert json.loads(fleet.ok("usage", "release", held[0]["id"], held[1]["id"], "--json")) == {
        "settled": 2,
        "released": True,
    }
    assert "1 dismissed" in fleet.ok("usage", "dismiss", held[2]["id"])

    lines = fleet.shown()
    assert [line["trace_id"] for line in lines] == [f"{n:032x}" for n in (1, 2)]
    assert set(KEYS) < lines[0].keys()
    assert [lines[0][key] for key in KEYS[1:]] == [
        "acme",
        "small",
        200,
        "complete",
        100,
        20,
        50,
        "edge",
        "edge",
        record().nano_usd,
        1,
    ]
    assert "trace_id=" in fleet.ok("usage", "export", "--account", "acme", "--from", "1h")
    [row] = json.loads(fleet.ok("usage", "--by", "tier", "--json"))
    assert (row["tier"], row["requests"]) == ("edge as edge", 2)
    assert "edge as edge" in fleet.ok("usage", "--by", "tier")
    assert json.loads(fleet.ok("usage", "exports", "--json")) == []


def test_a_coordinator_that_was_killed_and_one_that_was_restored_count_on(
    fleet: Fleet, tmp_path: Path
):
    before = fleet.shown()
    assert len(before) == 2
    # It is taken while the coordinator runs.
    made = fleet.coordinator.command("backup", str(tmp_path / "copy"), "--json")
    assert made.returncode == 0, made.stderr
    files = [Path(one) for one in json.loads(made.stdout)["files"]]
    assert [one.name for one in files] == ["usage.db", "coordinator.db"]
    assert {one.stat().st_mode & 0o777 for one in files} == {0o600}
    more = [replace(record(n), began_unix_ms=now_unix_ms()) for n in (4, 5)]
    assert fleet.push(more, first=4).watermark == 5
    fleet.coordinator.stop(signal.SIGKILL)
    fleet.coordinator.start()
    assert fleet.push(more, first=4).watermark == 5
    assert len(json.loads(fleet.ok("usage", "quarantine", "--json"))) == 2

    running = fleet.coordinator.command("restore", str(tmp_path / "copy"))
    assert "another coordinator is running" in running.stderr
    fleet.coordinator.stop()
    done = fleet.coordinator.command("restore", str(tmp_path / "copy"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["usage_database"].endswith("usage.db")
    fleet.coordinator.start()
    assert fleet.shown() == before
    # The agent has deleted 4 and 5, which were counted after the backup.
    after = [replace(record(6), began_unix_ms=now_unix_ms())]
    assert fleet.push(after, first=6).refused
    assert fleet.push(after, first=6).watermark == 6
    rows = json.loads(fleet.ok("usage", "quarantine", "--json"))
    assert [(row["kind"], row["seq"], row["last_seq"]) for row in rows] == [
        ("lost", 4, 5),
        ("record", 6, 6),
    ]


def test_a_batch_that_no_spool_makes_is_refused_by_its_code(fleet: Fleet):
    with pytest.raises(aio.AioRpcError) as failed:
        fleet.push([record()], first=2**62 + 1)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
