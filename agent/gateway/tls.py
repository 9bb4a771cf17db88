"""The client port's TLS certificate, reloaded without a restart."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from protos.domain.errors import ConfigInvalid

_log = logging.getLogger(__name__)

_ALPN = ["http/1.1"]


class ClientCertificate:
    """A certificate and key on disk, and the TLS context made of them.

    New connections use what was loaded last; open connections keep theirs.
    """

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._cert_file = cert_file
        self._key_file = key_file
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(_ALPN)
        try:
            self._load()
        except (OSError, ssl.SSLError) as error:
            raise ConfigInvalid(
                [f"client.cert_file {cert_file}: {error}"],
                "give a PEM certificate chain and its key",
            ) from error
        self._stamp = self._read_stamp()

    def reload(self) -> bool:
        """Load the files again; a bad pair is logged and the old one kept."""
        try:
            self._load()
        except (OSError, ssl.SSLError) as error:
            _log.error("client certificate not reloaded file=%s error=%s", self._cert_file, error)
            return False
        self._stamp = self._read_stamp()
        _log.info("client certificate reloaded file=%s", self._cert_file)
        return True

    def reload_if_changed(self) -> bool:
        """Reload if the files have changed since; True if it did."""
        return self._read_stamp() != self._stamp and self.reload()

    def _load(self) -> None:
        check = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        check.load_cert_chain(self._cert_file, self._key_file)  # a bad pair must not half-load
        self.context.load_cert_chain(self._cert_file, self._key_file)

    def _read_stamp(self) -> tuple[int, int]:
        try:
            return self._cert_file.stat().st_mtime_ns, self._key_file.stat().st_mtime_ns
        except OSError:
            return 0, 0
