"""A real S3 server: SeaweedFS, behind a proxy that a test can break."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_ports
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

ACCESS_KEY = "edgeforge-test"
SECRET_KEY = "a-secret-of-the-tests"
BUCKET = "weights"
_START_S = 60.0
_WEED = Path(sys.executable).with_name("weed")


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server; ``endpoint`` leads through ``proxy``."""

    proxy: TcpProxy

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run a server with one key and one bucket."""
    with tempfile.TemporaryDirectory(prefix="s3-") as made:
        folder = Path(made)
        ports = free_ports(8)
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(_command(folder, ports), stdout=log, stderr=log)
        try:
            files_url = f"http://127.0.0.1:{ports[4]}/buckets"
            wait_until(lambda: _made_bucket(files_url), _START_S, "the S3 server's bucket")
            wait_until(lambda: _answers(ports[6]), _START_S, "the S3 server")
            with TcpProxy(ports[6]) as proxy:
                yield S3Server(proxy)
        finally:
            server.kill()  # it takes 25 s to end by itself
            server.wait(30)


def _command(folder: Path, ports: list[int]) -> list[str]:
    (folder / "data").mkdir()
    identity = {
        "name": "edgeforge",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Read", "Write", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    names = ("master", "volume", "filer", "s3")
    listeners = [
        f"-{name}.{kind}={ports[2 * place + more]}"
        for place, name in enumerate(names)
        for more, kind in enumerate(("port", "port.grpc"))
    ]
    return [
        *(str(_WEED), "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *listeners,
        *("-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=20"),
        *("-s3", f"-s3.config={folder / 's3.json'}", "-s3.iam=false"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.localSocket={folder / 's3.sock'}"),
        f"-filer.localSocket={folder / 'filer.sock'}",
    ]


def _made_bucket(files_url: str) -> bool:
    request = urllib.request.Request(f"{files_url}/{BUCKET}/", method="POST")
    with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5) as answer:
        return bool(answer.status < 300)
    return False


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{BUCKET}", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 403  # it knows its keys
    except OSError:
        return False
