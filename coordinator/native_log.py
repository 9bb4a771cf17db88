"""Reads what gRPC's C core writes to standard error, the only record of refused handshakes.

The handshake of a client without a valid certificate fails in the C core, which reports it only
with a line on descriptor 2. Lines are read through a pipe; the product's own pass unchanged.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable

from protos.domain.plain_text import escaped

#: The start of a line of glog or abseil: severity, date, time, thread, source.
_NATIVE_LINE = re.compile(rb"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [\w.]+:\d+\] ")
_HANDSHAKE = re.compile(
    rb"Handshake failed.*(?P<cause>CERTIFICATE_VERIFY_FAILED[^\n]{0,100}"
    rb"|PEER_DID_NOT_RETURN_A_CERTIFICATE)"
)
_READ_BYTES = 65_536
_MAX_LINE_BYTES = 65_536
_STDERR = 2


def refused_cause(line: bytes) -> str | None:
    """Return why a TLS client was refused, None if ``line`` reports no such refusal."""
    found = _HANDSHAKE.search(line)
    return found["cause"].decode("ascii", "replace").strip() if found else None


def is_native(line: bytes) -> bool:
    """Return whether the C core wrote ``line``."""
    return _NATIVE_LINE.match(line) is not None


def passed_on(line: bytes) -> bytes:
    """Return what is written for ``line``: our own unchanged, errors of the C core escaped.

    Not written through logging: its lock may be held by a thread that waits for this one.
    """
    if not is_native(line):
        return line
    if line[:1] not in b"EF":
        return b""
    message = line.partition(b"] ")[2].decode("utf-8", "replace").rstrip("\n")
    return f"grpc: {escaped(message)}\n".encode()


class NativeLog:
    """Filters the process's standard error from ``start`` to ``close``."""

    def __init__(self, on_refused: Callable[[str], None]) -> None:
        """``on_refused(cause)`` is called in the reading thread."""
        self._on_refused = on_refused
        self._stderr = -1
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Replace descriptor 2 by a pipe."""
        self._stderr = os.dup(_STDERR)
        read_end, write_end = os.pipe()
        os.dup2(write_end, _STDERR)
        os.close(write_end)
        self._thread = threading.Thread(
            target=self._pump, args=(read_end,), name="native-log", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Restore descriptor 2, after everything written before was passed on."""
        if self._thread is not None:
            os.dup2(self._stderr, _STDERR)  # closes the pipe's last write end
            self._thread.join()
            os.close(self._stderr)
            self._thread = None

    def _pump(self, read_end: int) -> None:
        rest = b""
        while chunk := os.read(read_end, _READ_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._pass(line + b"\n")
            if len(rest) > _MAX_LINE_BYTES:
                self._pass(rest)
                rest = b""
        if rest:
            self._pass(rest)
        os.close(read_end)

    def _pass(self, line: bytes) -> None:
        cause = refused_cause(line)
        if cause is not None:
            self._on_refused(cause)
        else:
            self._write(passed_on(line))

    def _write(self, data: bytes) -> None:
        # A closed standard error must not fill the pipe and stop the process.
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._stderr, data) :]
