"""``edgeforge deploy``, ``plan`` and ``node show`` against a coordinator and an agent by script."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from coordinator.core.rollout import GRACE_MS
from protos.domain.resources import DesiredReplica, ResourceType
from protos.v1 import admin_pb2, fleet_pb2, resources_pb2
from tests.integration.coordinator_fleet.test_files import CONFIG, safetensors
from tests.support.coordinator_process import CoordinatorProcess, Operator
from tests.support.scripted_agent import ScriptedAgent
from tests.support.waiting import wait_until_async

COMMAND = Path(sys.executable).with_name("edgeforge")
TIMEOUT_S = 30.0
READY, COLD = resources_pb2.REPLICA_STATE_READY, resources_pb2.REPLICA_STATE_COLD
PULLING = resources_pb2.REPLICA_STATE_PULLING


class Fleet:
    """One node, and the command line of its operator."""

    def __init__(self, coordinator: CoordinatorProcess, operator: Operator) -> None:
        self.coordinator, self.operator = coordinator, operator
        self.environ = os.environ | {
            "EDGEFORGE_PROFILE": str(coordinator.operator_dir / "profile.toml"),
            "COLUMNS": "200",
        }
        self.agent: ScriptedAgent

    async def start(self, *argv: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            COMMAND,
            *argv,
            env=self.environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *argv: str, code: int = 0) -> tuple[str, str]:
        """Run a command to its end; return standard output and standard error."""
        process = await self.start(*argv)
        async with asyncio.timeout(TIMEOUT_S):
            out, err = await process.communicate()
        assert process.returncode == code, err.decode()
        return out.decode(), err.decode()

    async def json(self, *argv: str):
        return json.loads((await self.run(*argv, "--json"))[0])

    async def told(self, name: str) -> None:
        """Wait until the agent was told to hold something."""
        await wait_until_async(
            lambda: f"replica/{name}" in self.agent.rows(ResourceType.DESIRED),
            TIMEOUT_S,
            f"{name} to be ordered",
        )

    def hold(self, name: str, state: int = READY, **fields: object) -> fleet_pb2.ReplicaStatus:
        return fleet_pb2.ReplicaStatus(
            model=name,
            state=state,
            generation=1,
            **fields,  # type: ignore[arg-type]
        )


async def publish(operator: Operator, name: str, size_bytes: int) -> None:
    files = {"config.json": CONFIG, "model.safetensors": safetensors(size_bytes)}
    for data in files.values():
        digest = hashlib.sha256(data).digest()

        async def parts(data=data, digest=digest) -> AsyncIterator[admin_pb2.UploadBlobRequest]:
            yield admin_pb2.UploadBlobRequest(sha256=digest, size_bytes=len(data))
            yield admin_pb2.UploadBlobRequest(data=data)

        await operator.admin.UploadBlob(parts())
    manifest = [
        resources_pb2.ModelFile(
            path=path, sha256=hashlib.sha256(data).digest(), size_bytes=len(data)
        )
        for path, data in files.items()
    ]
    await operator.admin.RegisterModel(
        admin_pb2.RegisterModelRequest(
            name=name, source=resources_pb2.MODEL_SOURCE_MANAGED, files=manifest
        )
    )


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[CoordinatorProcess]:
    process = CoordinatorProcess(tmp_path)
    process.init_here()
    process.start()
    yield process
    process.stop()


@pytest.fixture
async def fleet(coordinator: CoordinatorProcess) -> AsyncIterator[Fleet]:
    operator = Operator(coordinator)
    await operator.create_pop("GRU")
    await operator.admin.CreateAccount(admin_pb2.CreateAccountRequest(id="acme"))
    for version, size_bytes in ((1, 5_000), (2, 6_000)):
        await publish(operator, f"acme/small@{version}", size_bytes)
    fleet = Fleet(coordinator, operator)
    fleet.agent = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    hello = fleet.agent.hello()
    hello.accelerator_kind, hello.engine_version = "cuda", "0.10.2"
    hello.weights_memory_bytes, hello.max_engines = 8_000_000_000, 1
    await fleet.agent.connect(hello)
    fleet.agent.keep_reporting()
    await wait_until_async(
        lambda: "node/gru-1" in fleet.agent.rows(ResourceType.TOPOLOGY), TIMEOUT_S, "listed"
    )
    yield fleet
    await fleet.agent.disconnect()
    await operator.close()


DEPLOY = ("deploy", "create", "acme/support", "--ttft-p99", "80ms", "--model", "acme/small@1")


async def test_a_deploy_from_its_creation_to_its_removal(fleet: Fleet):
    options = ("--sla", "realtime", "--residency", "BR", "--strict", "--max-premium", "25%")
    creating = await fleet.start(*DEPLOY, *options)
    await fleet.told("acme/small@1")
    fleet.agent.keep_reporting(
        replicas=[
            fleet.hold("acme/small@1", PULLING, pulled_bytes=120_000_000, total_bytes=269_000_000)
        ],
        disk=fleet_pb2.Disk(quota_bytes=10**9, used_bytes=120_000_000, trouble="nearly full"),
    )
    assert creating.stderr is not None
    seen = b""
    async with asyncio.timeout(TIMEOUT_S):
        while b"pulling 120 of 269 MB at gru-1" not in seen:
            seen += await creating.stderr.readline()
    (shown, _), (listed, _) = await asyncio.gather(
        fleet.run("node", "show", "gru-1"), fleet.run("status")
    )
    assert "45% of 269 MB, 0.0 MB/s" in shown
    assert "0.12 of 1.00 GB" in shown
    assert "models to 8.00 GB" in shown
    assert "nearly full" in listed
    fleet.agent.keep_reporting(
        replicas=[fleet.hold("acme/small@1")],
        cold_starts=[fleet_pb2.ColdStarts(path="engine", count=2, p50_ms=9, p99_ms=35_000)],
    )
    async with asyncio.timeout(TIMEOUT_S):
        out, _ = await creating.communicate()
    assert creating.returncode == 0
    assert b"acme/support: acme/small@1, revision 1, served" in out
    assert b"strict, at most 25% above" in out
    assert "engine 35000 ms (2)" in (await fleet.run("status"))[0]

    # One node with one engine: the next version is on disk before the switch.
    updating = await fleet.start("deploy", "update", "acme/support", "--model", "acme/small")
    await fleet.told("acme/small@2")
    disk = fleet.hold("acme/small@2", COLD, residency=resources_pb2.RESIDENCY_DISK)
    fleet.agent.keep_reporting(replicas=[fleet.hold("acme/small@1"), disk])
    await wait_until_async(lambda: _is_only_hot(fleet, "acme/small@2"), TIMEOUT_S, "the switch")
    fleet.agent.keep_reporting(replicas=[fleet.hold("acme/small@2")])
    async with asyncio.timeout(TIMEOUT_S):
        out, err = await updating.communicate()
    assert updating.returncode == 0, err
    assert b"revision 2" in out

    # The agent has acknowledged the row: the version before is not kept for the longest time.
    began_s = time.monotonic()
    while "rollout" in (found := await fleet.json("deploy", "show", "acme/support")):
        assert time.monotonic() - began_s < GRACE_MS / 1_000 / 2
    assert [one["deployment"]["revision"] for one in found["revisions"]] == [2, 1]
    assert found["revisions"][0]["by"] == "operator/admin"
    await fleet.run("deploy", "rollback", "acme/support", "--detach")
    (line,) = await fleet.json("deploy", "ls")
    assert line["rollout"]["other"]["model"] == "acme/small@1"
    plan = await fleet.json("plan", "show")
    assert {one["name"] for one in plan["holds"]} == {"acme/small@1", "acme/small@2"}
    assert all(one["why"] for one in plan["holds"])
    assert await fleet.json("deploy", "rm", "acme/support") == {"removed": "acme/support"}
    assert await fleet.json("deploy", "ls") == []
    audit = [action for _, action, _ in await fleet.operator.audit()]
    assert {"deploy.create", "deploy.update", "deploy.switch", "deploy.rollback"} <= set(audit)


async def test_a_change_that_is_not_ready_in_time_fails_the_command_with_the_reason(fleet: Fleet):
    await fleet.run(*DEPLOY, "--detach")
    await fleet.told("acme/small@1")
    base = fleet.hold("acme/small@1")
    fleet.agent.keep_reporting(replicas=[base])
    update = ("deploy", "update", "acme/support", "--model", "acme/small")
    updating = await fleet.start(*update, "--timeout", "4s")
    await fleet.told("acme/small@2")
    stuck = fleet.hold("acme/small@2", PULLING, error="disk is full\x1b[2J")
    fleet.agent.keep_reporting(replicas=[base, stuck])
    async with asyncio.timeout(TIMEOUT_S):
        out, err = await updating.communicate()
    assert updating.returncode == 1
    assert out == b""
    said = " ".join(err.decode().split())
    assert "pulling acme/small@2 at gru-1: disk is full?[2J" in said
    assert "revision 2 of acme/support was withdrawn: not ready after 4 s: pulling" in said
    assert "revision 1 goes on serving" in said
    shown, _ = await fleet.run("deploy", "show", "acme/support")
    assert "acme/small@1, revision 1, served" in shown
    assert "withdrawn: revision 2 (update) at " in shown
    assert "not ready after 4 s: pulling acme/small@2 at gru-1: disk is full?[2J" in shown
    (listed,) = await fleet.json("deploy", "ls")
    assert listed["withdrawn"]["revision"] == 2

    # Withdrawn by an operator, a change fails the command that waits for it as well.
    updating = await fleet.start(*update)
    await fleet.told("acme/small@2")
    _, err = await fleet.run(*update, code=1)
    assert "operator/admin is changing deployment 'acme/support' to revision 3" in err
    await fleet.run("deploy", "rollback", "acme/support")
    async with asyncio.timeout(TIMEOUT_S):
        _, told = await updating.communicate()
    assert updating.returncode == 1
    assert b"revision 3 of acme/support was withdrawn: withdrawn by operator/admin" in told


async def test_a_stuck_pull_is_said_by_the_older_list_and_the_wait(fleet: Fleet):
    creating = await fleet.start(*DEPLOY)
    await fleet.told("acme/small@1")
    stuck = fleet.hold("acme/small@1", PULLING, error="disk is full")
    fleet.agent.keep_reporting(replicas=[stuck])
    assert creating.stderr is not None
    seen = b""
    async with asyncio.timeout(TIMEOUT_S):
        while b"pulling acme/small@1 at gru-1: disk is full" not in seen:
            seen += await creating.stderr.readline()
    creating.send_signal(signal.SIGINT)
    await creating.communicate()
    assert "gru-1 pulling (disk is full)" in (await fleet.run("deployment", "ls"))[0]
    assert "pulling acme/small@1 at gru-1: disk is full" in (await fleet.run("deploy", "ls"))[0]


def _is_only_hot(fleet: Fleet, name: str) -> bool:
    rows = fleet.agent.rows(ResourceType.DESIRED)
    row = rows.get(f"replica/{name}")
    return isinstance(row, DesiredReplica) and row.hold.value == "hot"


async def test_ctrl_c_ends_the_waiting_and_not_the_deployment(fleet: Fleet):
    creating = await fleet.start(*DEPLOY)
    assert creating.stderr is not None
    async with asyncio.timeout(TIMEOUT_S):
        await creating.stderr.readline()  # what it waits for
        creating.send_signal(signal.SIGINT)
        _, err = await creating.communicate()
    assert b"goes on without this command: edgeforge deploy show acme/support" in err
    assert [one["deployment"]["name"] for one in await fleet.json("deploy", "ls")] == [
        "acme/support"
    ]


async def test_the_plan_is_frozen_ruled_and_applied_from_the_command_line(fleet: Fleet):
    out, _ = await fleet.run("plan", "freeze", "--pop", "GRU")
    assert "frozen: GRU by operator/admin" in out
    await fleet.run(*DEPLOY, "--detach")
    pending = (await fleet.json("plan", "show", "--node", "gru-1"))["pending"]
    assert [(one["name"], one["after"]) for one in pending] == [("acme/small@1", "hot")]
    assert "acme/small@1" in (await fleet.run("plan", "apply"))[0]
    await fleet.told("acme/small@1")
    await fleet.run("plan", "unfreeze")
    _, err = await fleet.run("plan", "apply", code=1)
    assert "not frozen" in err
    out, _ = await fleet.run("plan", "forbid", "acme/small@1", "--node", "gru-1")
    assert "forbidden: acme/small@1 at node gru-1" in out
    await wait_until_async(
        lambda: not fleet.agent.rows(ResourceType.DESIRED), TIMEOUT_S, "nothing to be held"
    )
    await fleet.run("plan", "release", "acme/small@1", "--node", "gru-1")
    await fleet.run("plan", "pin", "acme/small@1", "--pop", "GRU", "--json")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ((*DEPLOY[:3], "--ttft-p99", "fast", "--model", "acme/small"), "is no duration"),
        ((*DEPLOY, "--max-premium", "much"), "is no percentage"),
        (("deploy", "update", "acme/none", "--timeout", "never"), "is no duration"),
        (("deploy", "rollback", "acme/none", "--timeout", "never"), "is no duration"),
        ((*DEPLOY, "--sla", "best"), "is no SLA tier"),
        ((*DEPLOY, "--residency", "JP"), "none is in JP"),
        (("deploy", "create", "chat", *DEPLOY[3:]), "whose is 'chat'?"),
    ],
)
async def test_a_mistake_is_one_message(fleet: Fleet, argv: tuple[str, ...], says: str):
    process = await fleet.start(*argv)
    _, err = await process.communicate()
    assert process.returncode not in (0, None)
    assert says in " ".join(err.decode().split())
    assert b"Traceback" not in err
