"""A supervised engine: real processes, a fake vLLM with a family of its own."""

from __future__ import annotations

import os
import signal
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.engine_status import EngineState
from protos.domain.errors import ConfigInvalid, NoEngineEnvironment
from tests.support.engines import QUICK_POLICY, Watched, supervised
from tests.support.fake_vllm import fake_environment, family
from tests.support.waiting import wait_until_async

ABSENT, STARTING, WARMING, READY, STOPPING, BACKOFF, FAILED = EngineState


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    return fake_environment(tmp_path / "env")


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "engine"


async def test_ready_after_a_real_generation_on_a_private_socket(
    environment: Path, state_dir: Path
) -> None:
    async with supervised(environment, state_dir) as watched:
        status = await watched.until(READY)
        assert watched.states == [STARTING, WARMING, READY]
        assert status.endpoint is not None
        assert status.endpoint.model == "acme/small@1"
        assert status.endpoint.supports_continuous_usage
        assert (status.generation, status.restarts, status.last_error) == (1, 0, None)
        assert status.pid in family(environment)
        uds = status.endpoint.uds_path
        assert uds is not None
        assert stat.S_IMODE(Path(uds).parent.stat().st_mode) == 0o700
        requests = watched.control.requests(looks=True)
        first = next(one for one in requests if one["path"] == "/v1/completions")
        assert first["state"] == "finished"
    assert watched.status.state is ABSENT
    assert watched.status.endpoint is None
    assert family(environment) == []


async def test_listening_is_not_ready(environment: Path, state_dir: Path) -> None:
    fake_environment(environment, first_behaviour={"error_status": 500, "remaining": 3})
    async with supervised(environment, state_dir) as watched:
        await watched.until(READY)
        requests = watched.control.requests(looks=True)
        generations = [r for r in requests if r["path"] == "/v1/completions"]
        assert [r["state"] for r in generations[:4]] == ["failed"] * 3 + ["finished"]
        reasons = [s.last_error for s in watched.seen if s.state is WARMING]
        assert any("asked to fail" in str(reason) for reason in reasons)


@pytest.mark.parametrize("detached", [False, True])
async def test_a_crash_is_restarted_and_leaves_no_orphan(
    environment: Path, state_dir: Path, detached: bool
) -> None:
    fake_environment(environment, detached=detached)
    async with supervised(environment, state_dir) as watched:
        first = await watched.until(READY)
        await wait_until_async(lambda: len(family(environment)) == 5, 30, "the family is there")
        before = set(family(environment))
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        second = await watched.until(READY, generation=2)
        assert not before & set(family(environment))
        assert (second.restarts, second.last_error) == (1, "killed by signal 9")
        assert watched.states[3:5] == [BACKOFF, STARTING]
        assert all(s.endpoint is None for s in watched.seen if s.state is not READY)
    assert family(environment) == []


async def test_an_engine_that_ends_at_once_is_tried_again_and_again(
    environment: Path, state_dir: Path
) -> None:
    fake_environment(environment, exit_code=3)
    async with supervised(environment, state_dir) as watched:
        status = await watched.until(FAILED)
        assert status.restarts == QUICK_POLICY.start_failures - 1
        assert status.last_error == "exit code 3: ValueError: the model does not fit"
        assert family(environment) == []


async def test_a_failed_engine_mends_by_itself(environment: Path, state_dir: Path) -> None:
    fake_environment(environment, exit_code=3)
    policy = replace(QUICK_POLICY, start_failures=2, failed_retry_ms=100)
    async with supervised(environment, state_dir, policy) as watched:
        await watched.until(FAILED)
        fake_environment(environment)
        await watched.until(READY)


async def test_one_that_never_listens_is_ended(environment: Path, state_dir: Path) -> None:
    fake_environment(environment, mute=True)
    policy = replace(QUICK_POLICY, start_timeout_ms=700, start_failures=1)
    async with supervised(environment, state_dir, policy) as watched:
        status = await watched.until(FAILED)
        assert status.last_error == "not ready within 1 s"
        assert family(environment) == []


#: Four probes fit into it, and two readings of the counters.
QUICK_STALL = replace(QUICK_POLICY, stall_timeout_ms=2_000)


async def test_one_that_hangs_is_ended_and_replaced(environment: Path, state_dir: Path) -> None:
    async with supervised(environment, state_dir, QUICK_STALL) as watched:
        await watched.until(READY)
        watched.control.control(hang=True)
        second = await watched.until(READY, generation=2)
        assert second.last_error is not None
        assert "made no progress for 2 s: no answer within 500 ms" in second.last_error


async def test_a_stopped_process_is_found_out_within_the_stall_timeout(
    environment: Path, state_dir: Path
) -> None:
    async with supervised(environment, state_dir, QUICK_STALL) as watched:
        first = await watched.until(READY)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGSTOP)
        second = await watched.until(READY, generation=2)
        assert (second.restarts, second.generation) == (1, 2)
        assert "made no progress for 2 s" in str(second.last_error)
    assert family(environment) == []


def failed_probes(watched: Watched) -> int:
    looks = watched.control.requests(looks=True)
    return sum(look["state"] == "aborted" for look in looks)


async def test_probes_that_time_out_behind_a_line_end_no_engine_whose_tokens_are_relayed(
    environment: Path, state_dir: Path
) -> None:
    def a_token_now_and_then() -> float:
        now_mono_ms = time.monotonic() * 1_000
        return now_mono_ms - now_mono_ms % 1_500

    async with supervised(
        environment, state_dir, QUICK_STALL, relayed_mono_ms=a_token_now_and_then
    ) as watched:
        await watched.until(READY)
        watched.control.control(hang=True)
        await wait_until_async(lambda: failed_probes(watched) >= 4, 60, "probes to time out")
        assert watched.states[-1] is READY
        assert watched.status.generation == 1


async def test_an_engine_whose_own_counters_move_is_left_to_its_long_prefill(
    environment: Path, state_dir: Path
) -> None:
    policy = replace(QUICK_STALL, live_probe_interval_ms=500)
    async with supervised(environment, state_dir, policy) as watched:
        await watched.until(READY)
        watched.control.control(prefill_without_end=True)

        def readings() -> int:
            looks = watched.control.requests(looks=True)
            return sum(look["path"] == "/metrics" for look in looks)

        began_s = time.monotonic()
        await wait_until_async(lambda: readings() >= 8, 60, "the counters to be read")
        assert time.monotonic() - began_s > 2.0, "longer than a stall takes"
        assert watched.states[-1] is READY
        assert watched.status.generation == 1


async def test_a_stop_that_the_engine_ignores_ends_in_a_kill(
    environment: Path, state_dir: Path
) -> None:
    fake_environment(environment, deaf=True, detached=True)
    policy = replace(QUICK_POLICY, stop_grace_ms=200)
    async with supervised(environment, state_dir, policy) as watched:
        await watched.until(READY)
    assert watched.states[-2:] == [STOPPING, ABSENT]
    assert family(environment) == []


async def test_a_stop_during_the_start_leaves_nothing(environment: Path, state_dir: Path) -> None:
    async with supervised(environment, state_dir) as watched:
        assert watched.status.state is STARTING
    assert watched.status.state is ABSENT
    assert READY not in watched.states
    assert family(environment) == []


async def test_stopped_and_started_again(environment: Path, state_dir: Path) -> None:
    async with supervised(environment, state_dir) as watched:
        await watched.until(READY)
        assert watched.engine is not None
        await watched.engine.stop()
        assert family(environment) == []
        await watched.engine.start()
        status = await watched.until(READY, generation=2)
        assert status.restarts == 0


async def test_the_engine_inherits_no_secret(
    environment: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    async with supervised(environment, state_dir) as watched:
        status = await watched.until(READY)
        for pid in family(environment):
            seen = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"hf_secret" not in seen
            assert b"VLLM_SERVER_DEV_MODE" not in seen
        assert b"HF_HUB_OFFLINE=1" in Path(f"/proc/{status.pid}/environ").read_bytes()


async def test_logs_are_kept_and_bounded(
    environment: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.engine.process.LOG_FILE_BYTES", 20_000)
    fake_environment(environment, log_lines=1_000)
    async with supervised(environment, state_dir) as watched:
        await watched.until(READY)
    logs = sorted(state_dir.glob("engine.log*"))
    assert [path.name for path in logs] == [
        "engine.log",
        "engine.log.1",
        "engine.log.2",
        "engine.log.3",
    ]
    assert all(path.stat().st_size <= 20_000 for path in logs)
    assert "INFO line 999 " in "".join(path.read_text() for path in logs)


async def test_no_environment_is_said_at_once(tmp_path: Path, state_dir: Path) -> None:
    with pytest.raises(NoEngineEnvironment, match="packaging/engine/install"):
        async with supervised(tmp_path / "nowhere", state_dir):
            pytest.fail("it started")


async def test_a_state_folder_that_is_too_deep_is_said_at_once(
    environment: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigInvalid, match="shorter state folder"):
        async with supervised(environment, tmp_path / ("x" * 100)):
            pytest.fail("it started")


async def test_an_environment_that_goes_away_is_no_crash_loop(
    environment: Path, state_dir: Path
) -> None:
    async with supervised(environment, state_dir) as watched:
        status = await watched.until(READY)
        python = environment / "bin" / "python"
        python.rename(environment / "bin" / "gone")
        assert status.pid is not None
        os.kill(status.pid, signal.SIGKILL)
        failed = await watched.until(FAILED)
        assert "no engine environment" in str(failed.last_error)
        await wait_until_async(lambda: not family(environment), 30, "no process left")
