"""Compressed request bodies: decoded in bounded steps, under the limit of the decoded body."""

from __future__ import annotations

import asyncio
import io
import zlib

import zstandard

from protos.domain.errors import InvalidRequest, TooLarge, UnsupportedEncoding

#: Encodings that are decoded, as ``Accept-Encoding`` names them.
ACCEPTED_ENCODINGS = b"gzip, deflate, zstd"

#: Bodies decoded at once, each in a thread; further ones wait. Of one account no more are in line,
#: so that another's waits for no more of its bodies than these.
MAX_DECODED_AT_ONCE = 2
#: Members of one gzip body, and frames of one zstd body: each costs time even when it is empty.
MAX_MEMBERS = 64
#: Decoded bytes of one step, and encoded bytes handed to one.
_STEP_BYTES = 64 * 1024
#: A frame that needs more memory is refused. Source: RFC 8878, 3.1.1.1.2.
_MAX_WINDOW_BYTES = 8 * 1024 * 1024

_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class BodyDecoder:
    """Decodes bodies in threads: a large one takes tens of milliseconds."""

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._turns = asyncio.Semaphore(MAX_DECODED_AT_ONCE)
        #: By account, as long as it has bodies here: its own turns, and how many wait or decode.
        self._lines: dict[str, tuple[asyncio.Semaphore, int]] = {}

    async def decode(self, encoding: bytes, body: bytes, account: str = "") -> bytes:
        """Return the decoded ``body`` of ``account``. Raises as ``decode_body``."""
        name = encoding_of(encoding)
        if not name or not body:
            return body
        line, waiting = self._lines.get(account) or (asyncio.Semaphore(MAX_DECODED_AT_ONCE), 0)
        self._lines[account] = line, waiting + 1
        try:
            async with line, self._turns:
                return await asyncio.to_thread(decode_body, name, body, self._max_body_bytes)
        finally:
            _, waiting = self._lines[account]
            if waiting > 1:
                self._lines[account] = line, waiting - 1
            else:
                del self._lines[account]


def encoding_of(header: bytes) -> str:
    """Return the encoding that ``Content-Encoding`` names; empty for none.

    Raises: UnsupportedEncoding, for an unknown encoding and for several. Source: RFC 9110, 8.4.
    """
    name = header.strip().lower().decode("latin-1")
    name = name.removeprefix("x-")
    if name in ("", "identity"):
        return ""
    if name not in ("gzip", "deflate", "zstd"):
        raise UnsupportedEncoding(
            f"the content encoding {name[:40]!r} is not supported",
            f"send one of {ACCEPTED_ENCODINGS.decode()}, or no Content-Encoding",
        )
    return name


def decode_body(encoding: str, body: bytes, max_bytes: int) -> bytes:
    """Return ``body`` decoded; ``encoding`` is one of ``encoding_of``.

    Raises: InvalidRequest for broken data, TooLarge for more than ``max_bytes`` of it.
    """
    decoded = _Decoded(max_bytes)
    try:
        if encoding == "gzip":
            _inflate(body, _GZIP, decoded)
        elif encoding == "zstd":
            _decode_zstd(body, decoded)
        else:
            _inflate(body, _ZLIB if _is_zlib(body) else _RAW, decoded)
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise InvalidRequest(
            f"the body is not valid {encoding}", "compress it again, or send it as it is"
        ) from error
    return decoded.joined()


class _Decoded:
    """What has been decoded so far, under a limit."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        self.count(len(part))
        self.keep(part)

    def count(self, part_bytes: int) -> None:
        self._size_bytes += part_bytes
        if self._size_bytes > self._max_bytes:
            raise TooLarge(f"request body over {self._max_bytes} bytes once decoded")

    def keep(self, part: bytes) -> None:
        self._parts.append(part)

    def joined(self) -> bytes:
        return b"".join(self._parts)


def _is_zlib(body: bytes) -> bool:
    """Whether ``body`` has a header of zlib; some clients send raw deflate. RFC 1950, 2.2."""
    return len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _inflate(body: bytes, window_bits: int, decoded: _Decoded) -> None:
    """Decode deflate data in slices, because zlib copies the rest of its input at each step."""
    inflater = zlib.decompressobj(window_bits)
    members = 1
    for at in range(0, len(body), _STEP_BYTES):
        data = body[at : at + _STEP_BYTES]
        while data:
            if inflater.eof:
                members += 1
                if window_bits != _GZIP or members > MAX_MEMBERS:
                    raise zlib.error("data behind the end")
                inflater = zlib.decompressobj(window_bits)
            decoded.add(inflater.decompress(data, _STEP_BYTES))
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    while not inflater.eof:
        part = inflater.decompress(b"", _STEP_BYTES)
        if not part:
            raise EOFError
        decoded.add(part)


def _decode_zstd(body: bytes, decoded: _Decoded) -> None:
    """Decode zstd frames, twice: only one of the library's interfaces decodes in bounded steps,
    and only the other reports where a frame ends and whether it is complete.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    with decompressor.stream_reader(io.BytesIO(body), read_across_frames=True) as reader:
        while part := reader.read(_STEP_BYTES):
            decoded.count(len(part))
    rest = body
    for _ in range(MAX_MEMBERS):
        frame = decompressor.decompressobj()
        decoded.keep(frame.decompress(rest))
        if not frame.eof:
            raise EOFError
        rest = frame.unused_data
        if not rest:
            return
    raise zstandard.ZstdError("too many frames")
