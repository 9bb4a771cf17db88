"""What gRPC's C core says on standard error: caught, because nobody else sees refused handshakes.

A client without a certificate of ours never reaches Python: the handshake fails below it, and a
line on descriptor 2 is all that tells. The lines are read through a pipe; ours pass on unchanged.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable

from protos.domain.plain_text import escaped

#: As glog and abseil begin a line: severity, date, time, thread, source.
_NATIVE_LINE = re.compile(rb"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [\w.]+:\d+\] ")
_HANDSHAKE = re.compile(
    rb"Handshake failed.*(?P<cause>CERTIFICATE_VERIFY_FAILED[^\n]{0,100}"
    rb"|PEER_DID_NOT_RETURN_A_CERTIFICATE)"
)
_READ_BYTES = 65_536
_MAX_LINE_BYTES = 65_536
_STDERR = 2


def refused_cause(line: bytes) -> str | None:
    """Return why a TLS client was refused if ``line`` tells of one."""
    found = _HANDSHAKE.search(line)
    return found["cause"].decode("ascii", "replace").strip() if found else None


def is_native(line: bytes) -> bool:
    """Return whether the C core wrote ``line``."""
    return _NATIVE_LINE.match(line) is not None


def passed_on(line: bytes) -> bytes:
    """Return what goes to standard error for ``line``: our own as it is, an error of the C core.

    Not through logging: its lock may be held by a thread that waits for this one.
    """
    if not is_native(line):
        return line
    if line[:1] not in b"EF":
        return b""
    message = line.partition(b"] ")[2].decode("utf-8", "replace").rstrip("\n")
    return f"grpc: {escaped(message)}\n".encode()


class NativeLog:
    """Stands between the process and its standard error from ``start`` to ``close``."""

    def __init__(self, on_refused: Callable[[str], None]) -> None:
        """``on_refused(cause)`` is called in the reading thread."""
        self._on_refused = on_refused
        self._stderr = -1
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Put a pipe in the place of descriptor 2."""
        self._stderr = os.dup(_STDERR)
        read_end, write_end = os.pipe()
        os.dup2(write_end, _STDERR)
        os.close(write_end)
        self._thread = threading.Thread(
            target=self._pump, args=(read_end,), name="native-log", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Put descriptor 2 back; all that was written before has passed on."""
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
