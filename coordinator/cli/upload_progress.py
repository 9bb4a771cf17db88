"""What an upload shows: one line that changes on a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protos.output.terminal import StatusLine

_MIB: Final = 1024**2
#: Between two pictures on a terminal, and between two lines elsewhere.
_PICTURE_MS: Final = 200.0
_LINE_MS: Final = 10_000.0


class UploadProgress:
    """Bytes of one file as they are sent. ``begun_bytes`` were there before."""

    def __init__(
        self,
        name: str,
        begun_bytes: int,
        total_bytes: int,
        now_mono_ms: Callable[[], float],
        line: StatusLine | None = None,
    ) -> None:
        self._name = name
        self._begun_bytes = self._sent_bytes = begun_bytes
        self._total_bytes = total_bytes
        self._now_mono_ms = now_mono_ms
        self._line = line or StatusLine()
        self._began_ms = now_mono_ms()
        self._shown_ms = self._began_ms
        if not self._line.changes:
            begun = f", {_mib(begun_bytes)} are there" if begun_bytes else ""
            self._line.show(f"uploading {name} ({_mib(total_bytes)}{begun})")

    def advance(self, sent_bytes: int) -> None:
        """Count bytes that were handed to the connection."""
        self._sent_bytes += sent_bytes
        now_ms = self._now_mono_ms()
        if now_ms - self._shown_ms >= (_PICTURE_MS if self._line.changes else _LINE_MS):
            self._shown_ms = now_ms
            self._line.show(self._text(now_ms))

    def restart(self, received_bytes: int) -> None:
        """Count from what the coordinator has, after the connection broke."""
        self._sent_bytes = received_bytes

    def finish(self) -> None:
        """Leave the last picture on the terminal."""
        if self._line.changes:
            self._line.show(self._text(self._now_mono_ms()))
            self._line.keep()

    def _text(self, now_ms: float) -> str:
        spent_s = max(now_ms - self._began_ms, 1.0) / 1_000
        rate = (self._sent_bytes - self._begun_bytes) / spent_s
        return (
            f"{self._name}: {_mib(self._sent_bytes)} of {_mib(self._total_bytes)}, {_mib(rate)}/s"
        )


def _mib(size_bytes: float) -> str:
    return f"{size_bytes / _MIB:.1f} MiB"
