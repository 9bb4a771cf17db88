"""Readers over the vendors' real Python code and libraries that break on command."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.core.accelerator_health import FaultKind, Severity
from agent.gpu.process import ReaderBroken, ReaderChild
from agent.gpu.reader import chosen_kind, kinds
from agent.gpu.watch import GpuWatch
from protos.domain.errors import ConfigInvalid
from tests.support.stub_gpu import StubLibrary, bound_symbols, build_amdsmi, build_nvml
from tests.support.waiting import wait_until, wait_until_async

pytestmark = pytest.mark.integration

DEADLINE_MS = 10_000
BUILDERS = {"nvml": build_nvml, "amdsmi": build_amdsmi}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, StubLibrary]:
    folder = tmp_path_factory.mktemp("stubs")
    return {kind: build(folder) for kind, build in BUILDERS.items()}


@pytest.fixture
def stubs(built, monkeypatch):
    """Hand out the stub of a kind, in the environment of every child from now on."""

    def use(kind: str) -> StubLibrary:
        stub = built[kind]
        stub.orders.clear()
        stub.set()
        for name in ("ROCM_HOME", "ROCM_PATH"):
            monkeypatch.delenv(name, raising=False)
        for name, value in stub.environment.items():
            monkeypatch.setenv(name, value)
        return stub

    return use


@contextlib.asynccontextmanager
async def child_of(kind: str) -> AsyncIterator[ReaderChild]:
    child = ReaderChild(kind)
    try:
        yield child
    finally:
        await child.kill()


@contextlib.asynccontextmanager
async def watching(
    kind: str, *, deadline_ms: float = DEADLINE_MS, devices: tuple[str, ...] | None = None
) -> AsyncIterator[GpuWatch]:
    watch = GpuWatch(
        kind,
        interval_ms=50,
        deadline_ms=deadline_ms,
        now_mono_ms=lambda: time.monotonic() * 1_000,
        draw=random.random,
        on_change=lambda: None,
        devices=devices,
    )
    running = asyncio.get_running_loop().create_task(watch.run())
    try:
        yield watch
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert watch.reader_pid is None, "a child is left behind"


def test_the_bindings_own_list_of_symbols_is_what_the_stub_is_made_of():
    assert len(bound_symbols()) > 150


async def test_pynvml_tells_every_figure(stubs):
    stub = stubs("nvml")
    stub.set(clock_bits=0x44, ecc_uncorrected=2)
    async with child_of("nvml") as child:
        first, second = await child.read(DEADLINE_MS)
    assert (first.id, second.id) == ("GPU-stub-0", "GPU-stub-1")
    assert first.utilisation_ratio == 0.4
    assert (first.memory_used_bytes, first.memory_total_bytes) == (20 << 30, 80 << 30)
    assert (first.temperature_celsius, first.power_watts) == (55.0, 350.5)
    assert first.clock_reasons == ("power_cap", "thermal_hardware")
    assert (first.ecc_corrected, first.ecc_uncorrected) == (7, 2)
    assert not first.lost


async def test_amdsmi_tells_every_figure(stubs):
    stub = stubs("amdsmi")
    stub.set(ecc_uncorrected=2)
    async with child_of("amdsmi") as child:
        first, second = await child.read(DEADLINE_MS)
    assert (first.id, second.id) == ("amd-stub-0", "amd-stub-1")
    assert first.utilisation_ratio == 0.4
    assert (first.memory_used_bytes, first.memory_total_bytes) == (48 << 30, 192 << 30)
    assert (first.temperature_celsius, first.power_watts) == (61.0, 420.0)
    assert (first.ecc_corrected, first.ecc_uncorrected) == (7, 2)


async def test_a_host_without_a_gpu_tells_of_its_processors():
    async with child_of("cpu") as child:
        (cpu,) = await child.read(DEADLINE_MS)
    assert cpu.memory_total_bytes
    assert cpu.utilisation_ratio is not None


async def test_an_xid_is_told_once_by_the_gpu_that_had_it(stubs):
    stub = stubs("nvml")
    async with child_of("nvml") as child:
        await child.read(DEADLINE_MS)
        stub.set(xid=79, xid_number=1, xid_device=1)
        first, second = await child.read(DEADLINE_MS)
        assert first.events == ()
        assert [(event.kind, event.code) for event in second.events] == [("xid", 79)]
        assert all(one.events == () for one in await child.read(DEADLINE_MS))


async def test_a_ras_event_is_told_once(stubs):
    stub = stubs("amdsmi")
    async with child_of("amdsmi") as child:
        await child.read(DEADLINE_MS)
        stub.set(ras=3, ras_number=1)
        first, second = await child.read(DEADLINE_MS)
        assert [(event.kind, event.code) for event in first.events] == [("ras", 3)]
        assert second.events == ()
        assert (await child.read(DEADLINE_MS))[0].events == ()


@pytest.mark.parametrize("kind", BUILDERS)
async def test_a_lost_gpu_is_told_beside_one_that_is_well(stubs, kind):
    stub = stubs(kind)
    async with child_of(kind) as child:
        await child.read(DEADLINE_MS)
        stub.set(lost=1)
        first, second = await child.read(DEADLINE_MS)
    assert (first.lost, second.lost) == (False, True)


@pytest.mark.parametrize("kind", BUILDERS)
async def test_a_call_that_hangs_ends_with_its_child_and_the_next_child_reads(stubs, kind):
    stub = stubs(kind)
    async with child_of(kind) as child:
        await child.read(DEADLINE_MS)
        hung = child.pid
        stub.set(hang=1)
        with pytest.raises(ReaderBroken, match="no answer within 300 ms"):
            await child.read(300)
        assert child.pid is None
        stub.set(hang=0)
        assert len(await child.read(DEADLINE_MS)) == 2
        assert child.pid != hung


@pytest.mark.parametrize("kind", BUILDERS)
async def test_a_library_that_crashes_costs_only_the_child(stubs, kind):
    stub = stubs(kind)
    async with child_of(kind) as child:
        stub.set(crash=1)
        with pytest.raises(ReaderBroken, match="died"):
            await child.read(DEADLINE_MS)
        stub.set(crash=0)
        assert len(await child.read(DEADLINE_MS)) == 2


@pytest.mark.parametrize("kind", BUILDERS)
async def test_no_driver_is_a_reason_in_words(stubs, kind):
    stubs(kind).set(no_driver=1)
    async with child_of(kind) as child:
        with pytest.raises(ReaderBroken, match=r"(?i)driver not loaded"):
            await child.read(DEADLINE_MS)


@pytest.mark.parametrize(
    ("kind", "reason"), [("nvml", "Library Not Found"), ("amdsmi", "libamd_smi.so")]
)
async def test_no_library_is_a_reason_in_words(monkeypatch, kind, reason):
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    async with child_of(kind) as child:
        with pytest.raises(ReaderBroken, match=reason):
            await child.read(DEADLINE_MS)


@pytest.mark.parametrize("kind", BUILDERS)
async def test_a_gpu_without_the_vendors_library_warns_and_the_node_serves(monkeypatch, kind):
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    async with watching(kind) as watch:
        await wait_until_async(lambda: watch.failures >= 2, 20, "two failures")
        assert [fault.severity for fault in watch.faults] == [Severity.WARNING]
        assert watch.drain_reason == ""


async def test_an_xid_of_a_gpu_that_the_engine_does_not_use_drains_nothing(stubs):
    stub = stubs("nvml")
    async with watching("nvml", devices=("GPU-stub-0",)) as watch:
        await wait_until_async(lambda: watch.reads >= 1, 20, "a reading")
        stub.set(xid=79, xid_number=1, xid_device=1)
        seen = watch.reads
        await wait_until_async(lambda: watch.reads >= seen + 3, 20, "three readings")
        assert watch.faults == ()
        assert len(watch.readings) == 2, "both are still shown"
        stub.set(xid=79, xid_number=2, xid_device=0)
        await wait_until_async(lambda: bool(watch.drain_reason), 20, "its own GPU's fault")
        assert "GPU-stub-0" in watch.drain_reason


TOY = """
from agent.core.accelerators import Reading

class ToyReader:
    def open(self):
        print("what a library prints does no harm")
    def read(self):
        return [Reading("toy-0", 0, "Toy", utilisation_ratio=0.25)]
    def close(self):
        pass
"""


def install_toy(folder: Path, monkeypatch, source: str = TOY) -> None:
    """Install a distribution beside the agent, as a vendor of other accelerators would."""
    (folder / "toy_reader.py").write_text(source)
    about = folder / "toy_reader-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-reader\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[edgeforge.accelerators]\ntoy = toy_reader:ToyReader\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(str(folder))


async def test_a_fourth_kind_needs_no_change_of_the_product(tmp_path, monkeypatch):
    assert "toy" not in kinds()
    with pytest.raises(ConfigInvalid, match="'toy' is none of auto, none, amdsmi, cpu, nvml"):
        chosen_kind("toy")
    install_toy(tmp_path, monkeypatch)
    assert chosen_kind("toy") == "toy"
    async with child_of("toy") as child:
        (toy,) = await child.read(DEADLINE_MS)
    assert (toy.id, toy.utilisation_ratio) == ("toy-0", 0.25)


@pytest.mark.parametrize(
    "answer",
    ['[Reading("", 0, "x")]', '[Reading("a", 0, "x", power_watts=-1.0)]', '[Reading("a", 0, 7)]'],
)
async def test_a_child_that_talks_nonsense_is_ended(tmp_path, monkeypatch, answer):
    right = '[Reading("toy-0", 0, "Toy", utilisation_ratio=0.25)]'
    install_toy(tmp_path, monkeypatch, TOY.replace(right, answer))
    async with child_of("toy") as child:
        with pytest.raises(ReaderBroken):
            await child.read(DEADLINE_MS)
        assert child.pid is None


async def test_an_endless_line_is_bounded(tmp_path, monkeypatch):
    endless = TOY.replace('"toy-0"', '"x" * 10_000_000')
    install_toy(tmp_path, monkeypatch, endless)
    async with child_of("toy") as child:
        with pytest.raises(ReaderBroken):
            await child.read(DEADLINE_MS)


def test_a_device_file_decides_what_auto_means(tmp_path):
    assert chosen_kind("auto", tmp_path) == "cpu"
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "kfd").touch()
    assert chosen_kind("auto", tmp_path) == "amdsmi"
    (tmp_path / "dev" / "nvidiactl").touch()
    assert chosen_kind("auto", tmp_path) == "nvml"


async def test_a_reader_that_hangs_is_restarted_and_its_fault_is_fatal_while_it_stays_blind(stubs):
    stub = stubs("nvml")
    async with watching("nvml", deadline_ms=2_000) as watch:
        await wait_until_async(lambda: watch.readings, 20, "a first reading")
        assert watch.faults == ()
        stub.set(hang=1)
        await wait_until_async(lambda: watch.drain_reason, 30, "the node to be drained")
        (fault,) = watch.faults
        assert (fault.kind, fault.severity) == (FaultKind.READER, Severity.FATAL)
        assert "no answer within 2000 ms" in fault.detail
        reads = watch.reads
        stub.set(hang=0)
        await wait_until_async(lambda: watch.reads > reads, 30, "the reader to be back")
        assert watch.drain_reason, "one answer is not health"


async def test_a_reader_that_dies_by_itself_is_started_again(stubs):
    stubs("nvml")
    async with watching("nvml") as watch:
        await wait_until_async(lambda: watch.reads, 20, "a first reading")
        before, reads = watch.reader_pid, watch.reads
        assert before is not None
        os.kill(before, signal.SIGKILL)
        await wait_until_async(lambda: watch.failures and watch.reads > reads, 20, "a new child")
        assert watch.reader_pid != before
        assert [fault.severity for fault in watch.faults] == [Severity.WARNING]


def test_a_child_whose_agent_is_killed_dies_even_inside_a_hung_call(stubs):
    stubs("nvml").set(hang=1)
    parent = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-P", "-m", "agent.gpu.child", "--kind", "nvml"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdin.write(b"read\\n"); child.stdin.flush()
print(child.pid, flush=True)
child.wait()
"""
    agent = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    with agent:
        assert agent.stdout is not None
        pid = int(agent.stdout.readline())
        wait_until(lambda: _sleeps_in_the_library(pid), 20, "the child to hang")
        agent.kill()
    wait_until(lambda: not Path(f"/proc/{pid}/maps").exists() or _is_gone(pid), 30, "it to die")


def _sleeps_in_the_library(pid: int) -> bool:
    """Whether it has loaded the stub and waits in pause(2)."""
    return (
        Path(f"/proc/{pid}/wchan").exists() and _state(pid) == "S" and "libnvidia-ml" in _maps(pid)
    )


def _maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _is_gone(pid: int) -> bool:
    try:
        return _state(pid) in ("Z", "X")
    except OSError:
        return True


def test_the_agent_itself_never_loads_a_vendors_code():
    script = "import sys, agent.main; print([m for m in ('pynvml', 'amdsmi') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
