"""The client of the administration socket, used by the command line."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path

from protos.domain.errors import EdgeForgeError, LinkDown

_TIMEOUT_S = 10.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


def ask_agent(socket_path: Path, method: str, path: str) -> dict[str, object]:
    """Send a request to the running agent. Raises: LinkDown without one; EdgeForgeError."""
    connection = _UnixConnection(socket_path)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise LinkDown(
            f"no agent answers at {socket_path}: {error}",
            "is it running? edgeforge-agent serve --config FILE",
        ) from error
    finally:
        connection.close()
    if response.status != 200:
        raise EdgeForgeError(str(answer.get("error", "the agent refused")))
    return dict(answer)
