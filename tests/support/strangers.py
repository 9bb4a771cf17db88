"""What strangers write to an HTTP port, and what they are told."""

from __future__ import annotations

import asyncio
import contextlib

#: What a stranger writes that must not be in a log.
MARK = b"Str4ngers-W0rds"
#: What no server can read.
MALFORMED = [
    b"GET /livez HTTP/1.1\r\n" + MARK + b"\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nhost: x\r\nx-a: " + MARK * 2_000 + b"\r\n\r\n",
    MARK + b"\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\nx: " + MARK + b"\r\n\r\n",
    b"\x16\x03\x01" + MARK,
]


async def talk(port: int, sent: bytes) -> bytes:
    """Return everything that a port on this host answers to ``sent`` until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
