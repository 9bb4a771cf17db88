"""The one place that logs: one entry is one line, and only a traceback adds lines below it."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator

from protos.domain.plain_text import escaped

LINE_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
#: Before each line of a traceback: no entry begins with it.
_CONTINUATION = "  "

_log = logging.getLogger(__name__)


class EscapingFormatter(logging.Formatter):
    """Escapes the whole entry; lines of a traceback stay lines, escaped and indented."""

    def __init__(self, line_format: str = LINE_FORMAT) -> None:
        super().__init__(line_format)

    def format(self, record: logging.LogRecord) -> str:
        # Not the base class's: it appends ``exc_text``, which another formatter may have cached.
        record.message = record.getMessage()
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        return "\n".join([escaped(self.formatMessage(record)), *self._continuation(record)])

    def _continuation(self, record: logging.LogRecord) -> Iterator[str]:
        if record.exc_info:
            traceback = self.formatException(record.exc_info)
        else:
            traceback = record.exc_text or ""
        for text in (traceback, record.stack_info or ""):
            for line in text.split("\n") if text else ():
                yield _CONTINUATION + escaped(line)


def log_to_stderr(level: int) -> None:
    """Log to standard error from now on, exceptions that end a thread included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EscapingFormatter())
    logging.basicConfig(level=level, handlers=[handler])
    threading.excepthook = _log_ended_thread


def _log_ended_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is None:
        return
    name = "unknown" if ended.thread is None else ended.thread.name
    exc_info = (ended.exc_type, ended.exc_value, ended.exc_traceback)
    _log.error("a thread ended by an exception thread=%s", name, exc_info=exc_info)
