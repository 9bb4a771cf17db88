"""The operator's certificate renews itself, beside whatever a command does.

The key stays: only the certificate and the authorities are replaced, each in one rename, so that
a kill at any moment leaves a pair that works.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator import clock
from coordinator.cli.validity import validity_of
from protos.enrolment.keys import key_in, signing_request
from protos.host.files import write_whole
from protos.v1 import admin_pb2

if TYPE_CHECKING:
    from coordinator.cli.client import AdminClient
    from coordinator.cli.profiles import Profile

_TIMEOUT_S = 5.0
#: How long the end of a command waits for a renewal.
_PATIENCE_S = 2.0


class Renewal:
    """A renewal in a thread of its own. It prints nothing, and its failure fails no command."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client
        self._thread = threading.Thread(target=self._run, name="renewal", daemon=True)

    @classmethod
    def begin(cls, client: AdminClient) -> Renewal | None:
        """Renew the certificate of the client's profile if it is due."""
        profile = client.profile
        validity = validity_of(profile.cert_file)
        if validity is None or not validity.due(clock.now_unix_ms()):
            return None
        if not os.access(profile.cert_file.parent, os.W_OK):
            return None
        renewal = cls(client)
        renewal._thread.start()
        return renewal

    def finish(self) -> None:
        """Wait for it, but not for long: the next command tries again."""
        self._thread.join(_PATIENCE_S)

    def _run(self) -> None:
        try:
            with _alone(self._client.profile.cert_file.parent):
                _renew(self._client, self._client.profile)
        except Exception:
            return


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Let one process at a time write into a folder. Raises: BlockingIOError if one does."""
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _renew(client: AdminClient, profile: Profile) -> None:
    key = key_in(profile.key_file.read_bytes())
    if key is None:
        return
    request = admin_pb2.RenewOperatorRequest(csr_der=signing_request(key))
    renewed = client.call(lambda stub: stub.RenewOperator, request, timeout_s=_TIMEOUT_S)
    write_whole(profile.ca_file, renewed.ca_bundle_pem)
    write_whole(profile.cert_file, renewed.certificate_pem)
