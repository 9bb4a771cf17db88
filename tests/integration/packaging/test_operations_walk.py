"""A new operator's way from bare machines to a first token, by the letter of docs/OPERATIONS.md.

Three minimal Debian hosts are booted with systemd; the commands and files are those of the guide.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.debian_host import (
    DebianHost,
    DebianNetwork,
    NoHosts,
    install_tools,
    make_root,
    missing_tools,
)
from tests.support.operations_guide import steps_of
from tests.support.operator_walk import OperatorWalk
from tests.support.real_engine import (
    CACHE_DIR,
    ROOT,
    engine_environment,
    small_model_dir,
)

pytestmark = pytest.mark.timeout(900)

HEADING = "From bare machines to a first token"
HOSTS = ("coordinator.example.net", "gru-1.example.net", "laptop")
#: More would be a worse guide than the one that was asked for.
MOST_COMMANDS, MOST_FILES = 29, 2


def wheels_for_hosts() -> Path:
    """Return a folder with what the hosts' Python needs, as a host without an index has it."""
    lists = [
        ROOT / "packaging" / "requirements" / f"{role}.txt" for role in ("agent", "coordinator")
    ]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in lists)).hexdigest()
    folder = CACHE_DIR / f"host-wheels-{digest[:12]}"
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        for path in lists:
            argv = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes"]
            argv += ["--only-binary", ":all:", "-r", str(path), "-d", str(partial)]
            subprocess.run(argv, check=True, timeout=600)
        partial.rename(folder)
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianNetwork]:
    """Three booted hosts; skipped by name on a machine that cannot boot any."""
    install_tools()
    if reason := missing_tools():
        pytest.skip(reason)
    asked_for = {
        word
        for step in steps_of(HEADING)
        for command in step.commands()
        if command.startswith("apt-get install")
        for word in command.split()[2:]
        if not word.startswith("-")
    }
    shared = {
        "/opt/edgeforge-engine/lib": engine_environment() / "lib",
        "/opt/wheels": wheels_for_hosts(),
        "/root/model": small_model_dir(),
    }
    with contextlib.ExitStack() as stack:
        try:
            # libnuma1: the engine's installer brings it where a host lacks it.
            root = make_root(CACHE_DIR, (*sorted(asked_for), "curl", "libnuma1"))
            logs = tmp_path_factory.mktemp("hosts")
            hosts = stack.enter_context(DebianNetwork(root, logs, shared))
            for name in HOSTS:
                prepare(hosts.boot(name))
        except NoHosts as error:
            pytest.skip(f"no host can be booted here: {error}")
        yield hosts


def prepare(host: DebianHost) -> None:
    """Give the host an index that is a folder, as behind a firewall, and the engine's Python."""
    pip = host.root / "etc" / "pip.conf"
    pip.write_text("[global]\nno-index = true\nfind-links = /opt/wheels\n")
    engine = host.root / "opt" / "edgeforge-engine"
    (engine / "bin").mkdir()
    (engine / "bin" / "python").symlink_to("/usr/bin/python3.11")
    (engine / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11\n")


def test_a_new_operator_arrives_at_a_first_token_by_the_letter_of_the_guide(
    network: DebianNetwork, tmp_path: Path
) -> None:
    subprocess.run([ROOT / "packaging" / "build-wheels", "--out", tmp_path / "dist"], check=True)
    walk = OperatorWalk(network, tmp_path / "dist")
    began = time.monotonic()
    for step in steps_of(HEADING):
        walk.carry_out(step)
    took_s = time.monotonic() - began

    slowest = sorted(walk.took_s, key=lambda one: -one[1])[:5]
    print(f"{walk.commands} commands, {walk.files} files, {took_s:.0f} s; slowest:")
    print("\n".join(f"{seconds:6.1f} s  {command[:100]}" for command, seconds in slowest))
    (asked,) = [command for command in walk.printed if command.startswith("curl")]
    answer = json.loads(walk.printed[asked])
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] > 0
    (doctor,) = [text for command, text in walk.printed.items() if "doctor" in command]
    assert "FAILED" not in doctor
    assert walk.commands <= MOST_COMMANDS
    assert walk.files <= MOST_FILES

    agent = network.hosts["gru-1.example.net"]
    owners = agent.run("find /var/lib/edgeforge/agent ! -user edgeforge").stdout
    assert owners == "", "the service's state is the service's"
    agent.run("systemctl is-enabled edgeforge-agent && systemctl is-active edgeforge-agent")
    errors = agent.run("journalctl -u edgeforge-agent -p err --no-pager -q").stdout
    assert errors == ""
