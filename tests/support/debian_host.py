"""Minimal Debian hosts, booted with systemd, on a network of their own.

A root is made once (``mmdebstrap``, about a minute) and kept; a host is an overlay of it in memory,
so that each begins as the distribution's installer leaves a machine. Needs root and Debian's
``systemd-container`` and ``mmdebstrap``.

>>> with DebianNetwork(root) as network:
...     host = network.boot("coordinator")
...     host.run("systemctl is-system-running")
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.support.waiting import wait_until

_BRIDGE = f"efbr{os.getpid()}"
_PREFIX = "10.97.0"
_BOOT_TIMEOUT_S = 60.0
#: What a minimal Debian has beyond its base here: systemd, addresses, trust in public authorities.
_PACKAGES = ("systemd", "systemd-sysv", "dbus", "iproute2", "ca-certificates", "procps")
#: Of a login shell of root.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MIRROR = "http://deb.debian.org/debian"


class NoHosts(Exception):
    """This machine cannot boot hosts: no mirror answers, or it lacks privileges of the kernel."""


def missing_tools() -> str:
    """Return why hosts cannot be booted here; empty when they can."""
    if os.geteuid() != 0:
        return "booting a host needs root"
    absent = [name for name in ("systemd-nspawn", "mmdebstrap", "ip") if not shutil.which(name)]
    return f"not installed: {', '.join(absent)}" if absent else ""


def install_tools() -> None:
    """Install what ``missing_tools`` asks for, where this is Debian and the user is root."""
    if os.geteuid() == 0 and missing_tools() and shutil.which("apt-get"):
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        argv = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
        for command in (["apt-get", "update", "-qq"], [*argv, "systemd-container", "mmdebstrap"]):
            subprocess.run(command, env=environ, capture_output=True, timeout=300, check=False)


def make_root(folder: Path, packages: tuple[str, ...] = ()) -> Path:
    """Make a root with further ``packages`` in ``folder``, or return the one that is there.

    Raises: NoHosts.
    """
    include = ",".join((*_PACKAGES, *packages))
    root = folder / f"debian-bookworm-{hashlib.sha256(include.encode()).hexdigest()[:12]}"
    if root.exists():
        return root
    folder.mkdir(parents=True, exist_ok=True)
    partial = root.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={include}", "bookworm"]
    done = subprocess.run(
        [*argv, str(partial), _MIRROR], capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode != 0:
        raise NoHosts(f"mmdebstrap: {done.stderr[-500:]}")
    partial.rename(root)
    return root


@dataclass
class DebianHost:
    """One booted host."""

    name: str
    address: str
    process: subprocess.Popen[bytes]
    #: PID 1 of the host, as this machine counts.
    leader: int = 0
    #: Run before each command, such as an ``export`` of an earlier one.
    prelude: str = ""

    @property
    def root(self) -> Path:
        """The host's file system."""
        return Path(f"/proc/{self.leader}/root")

    def run(
        self, command: str, *, check: bool = True, stdin: str | None = None, timeout_s: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root on the host."""
        script = f"cd /root && {{ {self.prelude}\n{command}\n}}"
        done = subprocess.run(
            ["nsenter", "-t", str(self.leader), "-a", "bash", "-c", script],
            env={"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8"},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{self.name}: {command}\n{done.stdout}{done.stderr}"
        return done

    def copy_in(self, source: Path, target: str) -> None:
        """Copy a file or a folder of this machine to an absolute path on the host."""
        there = self.root / target.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, there, dirs_exist_ok=True, symlinks=True)
        else:
            shutil.copy2(source, there)

    def stop(self) -> None:
        """Power the host off."""
        if self.leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.leader, signal.SIGRTMIN + 4)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class DebianNetwork:
    """Hosts on one bridge, that reach one another by name and nothing else."""

    root: Path
    logs: Path
    #: Folders of this machine that hosts see, read-only: path on the host -> path here.
    shared: dict[str, Path] = field(default_factory=dict)
    hosts: dict[str, DebianHost] = field(default_factory=dict)

    def __enter__(self) -> DebianNetwork:
        _ip("link", "add", _BRIDGE, "type", "bridge")
        _ip("link", "set", _BRIDGE, "up")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for host in self.hosts.values():
            host.stop()
        _ip("link", "del", _BRIDGE)

    def boot(self, name: str) -> DebianHost:
        """Boot a host; every host knows the names of those before it and of this one.

        Raises: NoHosts.
        """
        address = f"{_PREFIX}.{len(self.hosts) + 10}"
        machine = f"ef{os.getpid()}-{len(self.hosts)}"
        # A host ends with the test run, also with one that is killed.
        argv = ["setpriv", "--pdeathsig", "TERM", "systemd-nspawn", "-q"]
        argv += ["-D", str(self.root), "-M", machine]
        argv += ["--volatile=overlay", "--boot", "--register=no", "--keep-unit"]
        argv += [f"--bind-ro={here}:{there}" for there, here in self.shared.items()]
        argv += [f"--network-bridge={_BRIDGE}", "--console=pipe", "--kill-signal=SIGRTMIN+4"]
        with (self.logs / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                argv,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        host = DebianHost(name, address, process)
        self.hosts[name] = host
        wait_until(lambda: _is_up(host), _BOOT_TIMEOUT_S, f"{name} to boot")
        host.run(f"ip addr add {address}/24 dev host0; ip link set host0 up; hostname {name}")
        for other in self.hosts.values():
            names = "".join(f"{one.address} {one.name}\n" for one in self.hosts.values())
            (other.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{names}")
        return host


def _is_up(host: DebianHost) -> bool:
    if host.process.poll() is not None:
        raise NoHosts(f"systemd-nspawn ended with {host.process.returncode}")
    # Its first child prepares the host and ends; the next one is the host's PID 1.
    found = Path(f"/proc/{host.process.pid}/task/{host.process.pid}/children").read_text().split()
    if not found:
        return False
    host.leader = int(found[0])
    done = host.run("systemctl is-system-running", check=False, timeout_s=20)
    return done.stdout.strip() in ("running", "degraded")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise NoHosts(f"ip {' '.join(words)}: {done.stderr.strip()}")
