"""Starts vLLM so that its modules are imported once, not once in each of its processes.

    python -P preimport.py ARGUMENTS OF vllm.entrypoints.openai.api_server

Run by path in the engine's environment, with the standard library and vLLM only. On a CPU vLLM
starts its core and its worker with multiprocessing's ``spawn``: each is a new interpreter that
imports vLLM again. Here the first process imports what all of them need, forks a process that does
nothing else, and becomes the API server. A process that vLLM spawns later is forked from that one,
over the standard library's forkserver, with the environment of the process that asked for it.

OpenMP reads its variables when its library is loaded, and vLLM gives its worker others than it has
itself: how many threads, bound to which cores. So a process that is given other variables than this
script was started with is spawned as ever, and what it was given is noted in ``NOTE``. The next
start executes itself with those, so that the worker too can be forked; the other processes get the
cores back that their library was not to be bound to.

A fork copies the calling thread alone, so nothing is forked from a process that has more than one,
and no OpenMP region has run in it; if there are more, vLLM starts as it does without this. The
libraries that vLLM preloads into the processes it spawns must be there from the start: this script
begins by executing itself anew with them.

The forked process and all that comes of it are descendants of the guard's engine, and end with it.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import runpy
import socket
import sys
from collections.abc import Mapping
from multiprocessing import (
    context,
    forkserver,
    popen_fork,
    popen_forkserver,
    popen_spawn_posix,
    resource_tracker,
    spawn,
)
from pathlib import Path
from typing import Any

SERVER = "vllm.entrypoints.openai.api_server"
#: What the API server, the core and the worker import; what a version lacks is left out.
MODULES = (
    SERVER,
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.cpu_model_runner",
    "vllm.model_executor.models.llama",
)
#: Below TMPDIR, which is the engine's private folder; no longer than the name of its own socket.
SOCKET_NAME = "f.sock"
#: Package, folder beside it or in it, and pattern of each library that vLLM preloads; the first
#: found of a line. Source: vllm/platforms/cpu.py, ``check_and_update_config``.
PRELOADED = (
    ("libtcmalloc", ("vllm", "libs", "libtcmalloc*.so*")),
    ("libgomp", ("torch", "../torch.libs", "libgomp*.so*")),
    ("libgomp", ("torch", "lib", "libgomp*.so*")),
)
_STARTED = "EDGEFORGE_PREIMPORT"
#: Threads of one library start when it is imported, unless it may have one only.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
_ENVIRON = "edgeforge_environ"
_CORES = "edgeforge_cores"
#: What OpenMP libraries read when they are loaded.
_OPENMP = ("OMP_", "GOMP_", "KMP_")
#: Below HOME, which outlives the engine: the OpenMP variables of its last worker.
NOTE = "openmp.json"


def preloaded(known: str) -> str:
    """Return ``LD_PRELOAD`` with the libraries that ``known``, its value, lacks."""
    paths = [one for one in known.split(":") if one]
    added: list[str] = []
    for name, (package, folder, pattern) in PRELOADED:
        if any(name in path for path in (*paths, *added)):
            continue
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            found = sorted((Path(spec.origin).parent / folder).resolve().glob(pattern))
            added += [str(path) for path in found[:1]]
    return ":".join([*added, *paths])


def thread_count() -> int:
    """Return how many threads this process has, native ones included."""
    return len(os.listdir("/proc/self/task"))


def openmp(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of ``environ`` that an OpenMP library reads."""
    return {name: value for name, value in environ.items() if name.startswith(_OPENMP)}


def noted() -> dict[str, str]:
    """Return the variables that the last worker was given; none if that is not known."""
    try:
        known = json.loads(_note_path().read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict) or not all(isinstance(one, str) for one in known.values()):
        return {}
    return openmp(known)


def _note_path() -> Path:
    return Path(os.environ.get("HOME", ".")) / NOTE


def start_parent(own: dict[str, str], workers: dict[str, str], cores: set[int]) -> None:
    """Fork the process that later ones are forked from, and let ``spawn`` use it.

    ``own`` are the OpenMP variables of this process as vLLM sees them, ``workers`` those that its
    library was loaded with, which bound it to ``cores``.
    """
    _replace_spawn(own, workers, cores)
    server: Any = forkserver._forkserver
    # A forked process would start a server of its own: it knows none that is its child.
    server.ensure_running = lambda: None
    resource_tracker.ensure_running()  # one for all, known before the fork
    path = str(Path(os.environ.get("TMPDIR", ".")) / SOCKET_NAME)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen()
        alive_read, alive_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _serve(listener.detach(), alive_read, alive_write)
        os.close(alive_read)
    server._forkserver_address = path
    server._forkserver_alive_fd = alive_write
    server._forkserver_pid = pid


def _serve(listener_fd: int, alive_read: int, alive_write: int) -> None:
    """Fork children on demand until no process is left that could ask; never returns."""
    code = 1
    try:
        os.close(alive_write)
        forkserver.main(listener_fd, alive_read, [])
    except SystemExit:
        code = 0
    finally:
        os._exit(code)


def _replace_spawn(own: dict[str, str], workers: dict[str, str], cores: set[int]) -> None:
    """Let a process of the ``spawn`` method be forked, with its parent's environment."""
    get_data, prepare = spawn.get_preparation_data, spawn.prepare
    first_pid = os.getpid()

    def get_with_environ(name: str) -> dict[str, Any]:
        is_worker = openmp(os.environ) == workers != own
        return get_data(name) | {_ENVIRON: dict(os.environ), _CORES: cores if is_worker else None}

    def prepare_with_environ(data: Mapping[str, Any]) -> None:
        os.environ.clear()
        os.environ.update(data[_ENVIRON])
        if data.get(_CORES):
            os.sched_setaffinity(0, data[_CORES])
        prepare(data)

    def popen(process: context.SpawnProcess) -> popen_fork.Popen:
        wanted = openmp(os.environ)
        # The core, which this process starts, computes nothing: its cores are enough.
        if wanted == workers or (wanted == own and os.getpid() == first_pid):
            return popen_forkserver.Popen(process)
        with contextlib.suppress(OSError):
            _note_path().write_text(json.dumps(wanted))
        return popen_spawn_posix.Popen(process)

    spawn.get_preparation_data = get_with_environ
    spawn.prepare = prepare_with_environ
    context.SpawnProcess._Popen = staticmethod(popen)  # type: ignore[assignment]


def main() -> None:
    """Become vLLM's API server."""
    if _STARTED not in os.environ:
        libraries = preloaded(os.environ.get("LD_PRELOAD", ""))
        own, workers = openmp(os.environ), noted()
        before = [own, sorted(os.sched_getaffinity(0))]
        env = {**os.environ, **_ONE_THREAD, **workers, _STARTED: json.dumps(before)}
        if libraries:
            env["LD_PRELOAD"] = libraries
        os.execve(sys.executable, [sys.executable, "-P", *sys.argv], env)
    own, all_cores = json.loads(os.environ.pop(_STARTED))
    workers, cores = openmp(os.environ), os.sched_getaffinity(0)
    for name in workers:
        del os.environ[name]
    os.environ.update(own)
    os.sched_setaffinity(0, all_cores)
    for name in MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    sys.modules.pop(SERVER, None)  # it runs as the main module
    threads = thread_count()
    if threads == 1:
        # With the library loaded, it has bound this thread.
        start_parent(own, workers, cores)
    else:
        sys.stderr.write(f"[preimport] {threads} threads run after the imports: nothing forked\n")
    runpy.run_module(SERVER, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
