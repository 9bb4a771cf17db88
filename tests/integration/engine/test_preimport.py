"""vLLM's processes are forked from one that has imported it; here of a stand-in package."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.engine import preimport

#: Says which process imported it, as vLLM does by taking seconds.
_ASYNC_LLM = """
import os, sys
IMPORTED_BY = os.getpid()
if os.environ.get("WITH_THREAD"):
    import threading
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
_SERVER = """
import json, multiprocessing, os, signal, sys, time
from vllm.v1.engine import async_llm

def say(**fields):
    os.write(1, (json.dumps(fields) + chr(10)).encode())

def child(depth, queue):
    say(depth=depth, pid=os.getpid(), imported_by=async_llm.IMPORTED_BY, late=os.environ["LATE"],
        gone="GONE" in os.environ, parent=os.getppid(),
        bound=os.environ.get("OMP_NUM_THREADS", ""))
    queue.put(depth)
    if depth == 1:
        os.environ["LATE"] = "of the core"
        if "--bind" in sys.argv:
            os.environ["OMP_NUM_THREADS"] = "1"
        below = multiprocessing.get_context("spawn").Process(target=child, args=(2, queue))
        below.start()
        below.join()
        sys.exit(7)
    if "--wait" in sys.argv:
        time.sleep(60)

if __name__ == "__main__":
    os.environ["LATE"] = "of the server"
    os.environ.pop("GONE", None)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    one = context.Process(target=child, args=(1, queue))
    one.start()
    say(depth=0, pid=os.getpid(), imported_by=async_llm.IMPORTED_BY, argv=sys.argv[1:],
        server_of=one._popen.__class__.__module__)
    got = [queue.get(timeout=20), queue.get(timeout=20)]
    one.join()
    say(got=sorted(got), exitcode=one.exitcode)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a folder with a package that has the modules of vLLM that start it."""
    for name, text in (
        ("vllm", ""),
        ("vllm/v1", ""),
        ("vllm/v1/engine", ""),
        ("vllm/entrypoints", ""),
        ("vllm/entrypoints/openai", ""),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    (tmp_path / "vllm/v1/engine/async_llm.py").write_text(_ASYNC_LLM)
    (tmp_path / "vllm/entrypoints/openai/api_server.py").write_text(_SERVER)
    return tmp_path


def start(package: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": str(package), "GONE": "1"} | variables
    env |= {"TMPDIR": str(package), "HOME": str(package)}
    return subprocess.Popen(
        [sys.executable, "-P", preimport.__file__, *arguments],
        env=env,
        cwd=package,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(package: Path, *arguments: str, **variables: str) -> tuple[dict, str]:
    """Return what was said by depth, and the standard error."""
    with start(package, *arguments, **variables) as process:
        out, errors = process.communicate(timeout=60)
    said = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0, errors
    return {one.get("depth", "end"): one for one in said}, errors


def test_core_and_worker_are_forked_with_the_imports_and_the_environment_of_their_parent(package):
    said, errors = run(package, "--model", "m")
    assert not errors
    server, core, worker = said[0], said[1], said[2]
    assert server["argv"] == ["--model", "m"]
    assert {one["imported_by"] for one in (server, core, worker)} == {server["pid"]}
    assert len({one["pid"] for one in (server, core, worker)}) == 3
    assert core["parent"] == worker["parent"] != server["pid"]
    assert (core["late"], worker["late"]) == ("of the server", "of the core")
    assert not core["gone"]
    assert said["end"] == {"got": [1, 2], "exitcode": 7}


def test_nothing_is_forked_from_a_process_with_threads(package):
    said, errors = run(package, WITH_THREAD="1")
    assert "2 threads run after the imports" in errors
    assert len({one["imported_by"] for one in (said[0], said[1], said[2])}) == 3
    assert said["end"] == {"got": [1, 2], "exitcode": 7}


def test_a_worker_with_other_openmp_variables_is_spawned_once_and_then_forked(package):
    said, _ = run(package, "--bind")
    assert said[1]["imported_by"] == said[0]["pid"]
    assert said[2]["imported_by"] == said[2]["pid"]  # its library must read them anew
    said, _ = run(package, "--bind")
    assert {said[at]["imported_by"] for at in (0, 1, 2)} == {said[0]["pid"]}
    assert (said[1]["bound"], said[2]["bound"]) == ("", "1")
    said, _ = run(package)  # bound no longer
    assert said[2]["imported_by"] == said[2]["pid"]
    said, _ = run(package)
    assert {said[at]["imported_by"] for at in (0, 1, 2)} == {said[0]["pid"]}


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"OMP_NUM_THREADS": 1}', '{"LD_PRELOAD": "x"}'])
def test_a_damaged_note_is_none(package, text):
    (package / preimport.NOTE).write_text(text)
    said, _ = run(package)
    assert {said[at]["imported_by"] for at in (0, 1, 2)} == {said[0]["pid"]}


def test_the_socket_is_for_this_user_alone_and_an_old_one_is_replaced(package):
    path = package / preimport.SOCKET_NAME
    path.touch()
    run(package)
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_the_forked_process_the_server_sees_its_core_end(package):
    with start(package, "--wait") as process:
        assert process.stdout is not None
        said: dict[int, dict] = {}
        while 2 not in said:
            one = json.loads(process.stdout.readline())
            said[one["depth"]] = one
        os.kill(said[1]["parent"], signal.SIGKILL)
        try:
            assert json.loads(process.stdout.readline())["exitcode"] == 255
        finally:
            for depth in (1, 2):
                os.kill(said[depth]["pid"], signal.SIGKILL)  # the guard's part


def test_libraries_that_are_known_already_are_not_preloaded_twice(tmp_path, monkeypatch):
    for package, folder, library in (
        ("vllm", "libs", "libtcmalloc_minimal.so.4"),
        ("torch", "lib", "libgomp.so.1"),
    ):
        (tmp_path / package / folder).mkdir(parents=True)
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / folder / library).touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    both = preimport.preloaded("")
    assert [Path(one).name for one in both.split(":")] == [
        "libtcmalloc_minimal.so.4",
        "libgomp.so.1",
    ]
    assert preimport.preloaded(both) == both
    assert preimport.preloaded("/own/libgomp.so").endswith(":/own/libgomp.so")
