"""Two network namespaces and a packet delayer between them: a distance that the kernel itself sees.

    python -m tests.support.packet_delay NAMESPACE_A NAMESPACE_B ONE_WAY_MS

A TCP relay cannot show a client's round trip: its own kernel answers. Here every packet is read
from a TUN device in one namespace and written, later, to one in the other. Needs root and
``ip`` (iproute2); ``why_not`` says what is missing. Netem is not needed.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import secrets
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import wait_until

# Source: linux/if_tun.h, sched.h.
_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x0001 | 0x1000
_CLONE_NEWNET = 0x40000000
_MTU_BYTES = 65_536
DEVICE = "tun0"
ADDRESS_A, ADDRESS_B = "10.213.0.1", "10.213.0.2"


@dataclass(frozen=True)
class TwoHosts:
    """Names of the namespaces; run commands in them."""

    a: str
    b: str

    def start(self, namespace: str, *argv: str) -> subprocess.Popen[str]:
        """Start a Python module's command line in a namespace."""
        return subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def why_not() -> str:
    """Return why this machine cannot make namespaces; empty if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "no `ip` here (apt-get install iproute2)"
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun here"
    name = f"efprobe{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode != 0:
        return f"no network namespaces: {made.stderr.decode().strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


@contextlib.contextmanager
def two_hosts(one_way_ms: float) -> Iterator[TwoHosts]:
    """Two hosts, ``2 * one_way_ms`` apart, for as long as the context lasts."""
    tag = secrets.token_hex(3)
    hosts = TwoHosts(f"ef{tag}a", f"ef{tag}b")
    delayer = None
    try:
        for name in (hosts.a, hosts.b):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        argv = ["-m", "tests.support.packet_delay", hosts.a, hosts.b, str(one_way_ms)]
        delayer = subprocess.Popen([sys.executable, *argv])
        for name, address in ((hosts.a, ADDRESS_A), (hosts.b, ADDRESS_B)):
            wait_until(lambda name=name: _has_device(name), 20, f"the device of {name}")
            _ip("-n", name, "address", "add", f"{address}/24", "dev", DEVICE)
            _ip("-n", name, "link", "set", DEVICE, "up")
        yield hosts
    finally:
        if delayer is not None:
            delayer.kill()
            delayer.wait()
        for name in (hosts.a, hosts.b):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True)


def _has_device(namespace: str) -> bool:
    argv = ["ip", "-n", namespace, "link", "show", DEVICE]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def open_tun(namespace: str) -> int:
    """Enter ``namespace`` and return a TUN device made there; it stays there when we leave."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{namespace}").open() as handle:
        if libc.setns(handle.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", DEVICE.encode(), _IFF_TUN_NO_PI))
    return descriptor


def forward(one: int, other: int, one_way_s: float) -> None:
    """Carry packets between two devices until killed, each ``one_way_s`` late, in order."""
    waiting: list[tuple[float, int, int, bytes]] = []
    numbers = itertools.count()
    across = {one: other, other: one}
    while True:
        pause_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select(list(across), [], [], pause_s)
        now_s = time.monotonic()
        for device in readable:
            with contextlib.suppress(OSError):
                packet = os.read(device, _MTU_BYTES)
                heapq.heappush(waiting, (now_s + one_way_s, next(numbers), across[device], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, target, packet = heapq.heappop(waiting)
            with contextlib.suppress(OSError):
                os.write(target, packet)


if __name__ == "__main__":
    forward(open_tun(sys.argv[1]), open_tun(sys.argv[2]), float(sys.argv[3]) / 1_000)
