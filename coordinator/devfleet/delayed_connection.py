"""One connection through the delay relay: two sockets, and a delay line each way."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from coordinator.devfleet.delay_line import DelayLine, Mark

if TYPE_CHECKING:
    from coordinator.devfleet.exact_timer import ExactTimer
    from coordinator.devfleet.link_faults import LinkFaults


class DelayedConnection:
    """Relays between ``source`` and ``destination``, delayed both ways.

    ``on_end`` is called once both sides are closed.
    """

    def __init__(
        self,
        source: str,
        destination: str,
        *,
        round_trip_ms: float,
        faults: LinkFaults,
        timer: ExactTimer,
        now_mono_ms: Callable[[], float],
        on_end: Callable[[DelayedConnection], None],
    ) -> None:
        self.source, self.destination = source, destination
        self.accepted_mono_ms = now_mono_ms()
        self.one_way_ms = round_trip_ms / 2
        self._faults = faults
        self._on_end = on_end
        self._ended = False
        #: Accepted while its link was half-open: it carries no byte, even after the link is healed.
        self.mute = faults.silences(source, destination)
        established = self.accepted_mono_ms + round_trip_ms
        forth = DelayLine(self.one_way_ms, established)
        back = DelayLine(self.one_way_ms, established + self.one_way_ms)
        self.near = Side(self, forth, timer, now_mono_ms)
        self.far = Side(self, back, timer, now_mono_ms)
        self.near.other, self.far.other = self.far, self.near
        self.look_at_faults(self.accepted_mono_ms)

    def look_at_faults(self, now_mono_ms: float) -> None:
        """Apply the present faults of the link."""
        faults, source, destination = self._faults, self.source, self.destination
        if faults.refuses(source, destination):
            self.abort()
            return
        silent = faults.silences(source, destination) or self.mute
        self.near.hold(silent or faults.blocks(source, destination), now_mono_ms)
        self.far.hold(silent or faults.blocks(destination, source), now_mono_ms)
        if self.mute and not faults.silences(source, destination):
            self.abort()

    def refuse(self) -> None:
        """Refuse the connection: the source gets the reset after the one-way delay."""
        self.far.send(Mark.RESET)

    def side_lost(self) -> None:
        """Note that one socket is closed; the connection ends when both are."""
        if not self._ended and self.near.closed and (self.far.closed or self.far.absent):
            self._ended = True
            self._on_end(self)

    def finish(self) -> None:
        """Close both sides once both directions have ended."""
        if self.near.delivered_end and self.far.delivered_end:
            self.near.close()
            self.far.close()

    def abort(self) -> None:
        """Reset both sides at once."""
        self.near.abort()
        self.far.abort()
        if self.near.absent and self.far.absent:
            self.side_lost()


def _end(out: asyncio.Transport) -> None:
    """Send the end of stream to a side that may be closed already."""
    try:
        if out.can_write_eof() and not out.is_closing():
            out.write_eof()
    except OSError:
        out.abort()


class Side(asyncio.Protocol):
    """The socket of one side; ``line`` carries what is read here to the other."""

    other: Side

    def __init__(
        self,
        connection: DelayedConnection,
        line: DelayLine,
        timer: ExactTimer,
        now_mono_ms: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._line = line
        self._timer = timer
        self._now_mono_ms = now_mono_ms
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._reading = True
        self._held = False
        self.closed = False
        #: Whether the end of stream read here was written on the other side.
        self.delivered_end = False

    @property
    def absent(self) -> bool:
        """Whether there has been no socket."""
        return self._transport is None

    # -- asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.other.closed:
            self._transport.abort()
            return
        self.other.pump(self._now_mono_ms())

    def data_received(self, data: bytes) -> None:
        self.send(data)
        if self._line.full and self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self.send(Mark.END)
        return True  # the other direction may still be open

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self.other.pump(self._now_mono_ms())

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.other.drop()
        if not self.other.closed:
            self.send(Mark.RESET)
        self._connection.side_lost()

    # -- called by the connection ----------------------------------------------------------------

    def send(self, item: bytes | Mark) -> None:
        """Send ``item`` to the other side."""
        now = self._now_mono_ms()
        self._line.put(item, now)
        self._set_timer()

    def hold(self, held: bool, now_mono_ms: float) -> None:
        """Hold or release what is read here."""
        if held and not self._held:
            self._line.block()
        elif self._held and not held:
            self._line.unblock(now_mono_ms)
            self._set_timer()
        self._held = held

    def pump(self, now_mono_ms: float) -> None:
        """Write the items that are due on the other side."""
        out = self.other._transport
        if out is None or self.other.closed or not self.other._writable:
            if out is None and self.other.closed:
                self._line.drop_all()
            return
        for item in self._line.take_due(now_mono_ms):
            if isinstance(item, bytes):
                out.write(item)
            elif item is Mark.RESET:
                out.abort()
            elif not self.delivered_end:
                self.delivered_end = True
                _end(out)
                self._connection.finish()
        self._set_timer()
        if not self._reading and self._line.has_room and not self.closed:
            self._reading = True
            if self._transport is not None:
                self._transport.resume_reading()

    def drop(self) -> None:
        """Drop all items: the other side is gone."""
        self._line.drop_all()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _set_timer(self) -> None:
        due = self._line.next_due_mono_ms
        if due is not None and self.other._writable and not self.other.closed:
            self._timer.at(due, self.pump)
