"""Events that the request machine takes, and commands that it returns."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.core.cold_start import ColdStart
    from agent.core.peer_load import PeerLoad
    from agent.core.request.attempt import Attempt
    from protos.domain.errors import EdgeForgeError
    from protos.domain.load_term import ColdWay
    from protos.domain.pricing import Usage
    from protos.domain.trace import FarTimes


class Ending(enum.StrEnum):
    """How an attempt's answer ended."""

    #: A whole response arrived, of any status; the client has seen no part of it.
    WHOLE = "whole"
    #: The last event of a stream arrived.
    STREAM = "stream"
    #: No connection, a cut connection, or an answer that cannot be parsed.
    LOST = "lost"


class Rest(enum.StrEnum):
    """What a broken stream still lacks, if its deployment allows streams to be continued."""

    #: It cannot be continued.
    UNKNOWN = "unknown"
    #: Only its last events, which the runner can write itself.
    END = "end"
    #: Text, which another replica can generate.
    TEXT = "text"


@dataclass(slots=True)
class Begun:
    """The request was admitted."""


@dataclass(slots=True)
class NotSent:
    """``attempt`` was not sent: its target cannot be asked any more, or the stream is complete.

    ``rest`` is set if the attempt would have continued a broken stream.
    """

    attempt: Attempt
    reason: str
    rest: Rest = Rest.UNKNOWN


@dataclass(slots=True)
class BecameResident:
    """What ``attempt`` asks for is in this node's engine now.

    ``cold_start`` is how it got there; None: it was there already.
    """

    attempt: Attempt
    cold_start: ColdStart | None


@dataclass(slots=True)
class CouldNotLoad:
    """What ``attempt`` asks for was not loaded into this node's engine."""

    attempt: Attempt
    error: EdgeForgeError


@dataclass(slots=True)
class LoadedThere:
    """The peer of ``attempt`` has loaded what it asks for, as the head of its answer says.

    ``waited_ms``: how long the request waited for it there. ``began``: it was the first to.
    """

    attempt: Attempt
    cold_start: ColdStart
    waited_ms: float
    began: bool


@dataclass(slots=True)
class PlaceDecided:
    """``attempt``, which was held, has a place at this node's engine now, or is refused one."""

    attempt: Attempt


@dataclass(slots=True)
class EngineProgressed:
    """The engine has generated for ``attempt``, but the client has no token yet."""

    attempt: Attempt


@dataclass(slots=True)
class FirstToken:
    """The first content, reasoning or tool delta arrived. ``load`` is what the peer reported."""

    attempt: Attempt
    load: PeerLoad | None


@dataclass(slots=True)
class AnswerBegun:
    """The answer must be passed on without a token: it is over, or too long to hold."""

    attempt: Attempt


@dataclass(slots=True)
class AttemptEnded:
    """The answer of ``attempt`` has ended.

    ``status`` is 0 if no response head came. ``usage`` is the engine's count, None if it reported
    none. ``far`` is the peer's report of its own times. ``stale``: the peer refused it because what
    it asks for is no longer in its engine; ``way`` is how it would be loaded again. ``visible``:
    a whole answer has something for its client to see.
    """

    attempt: Attempt
    ending: Ending
    status: int
    reason: str = ""
    usage: Usage | None = None
    load: PeerLoad | None = None
    far: FarTimes | None = None
    rest: Rest = Rest.UNKNOWN
    stale: bool = False
    way: ColdWay | None = None
    visible: bool = True


@dataclass(slots=True)
class ClientGone:
    """The client has left. ``usage`` is the engine's count so far."""

    usage: Usage | None = None
    far: FarTimes | None = None


@dataclass(slots=True)
class Abandoned:
    """The runner has failed: the request ends, whatever has been sent to the client."""


@dataclass(slots=True)
class CutShort:
    """This agent ends the request before its time, because it stops. The others as above."""

    error: EdgeForgeError
    usage: Usage | None = None
    far: FarTimes | None = None


@dataclass(slots=True)
class DeadlinePassed:
    """``next_deadline_mono_ms`` may have passed; too early an event is harmless.

    ``client_stalled``: the client does not read what was sent. ``usage`` and ``rest`` are those of
    the answer that goes to the client now.
    """

    client_stalled: bool = False
    usage: Usage | None = None
    rest: Rest = Rest.UNKNOWN


@dataclass(slots=True)
class TableChanged:
    """The routing table has changed: a node, the key, the account or the deployment may be gone.

    ``usage``, ``far`` and ``rest`` are those of the answer that goes to the client now.
    """

    usage: Usage | None = None
    far: FarTimes | None = None
    rest: Rest = Rest.UNKNOWN


Event = (
    Begun
    | NotSent
    | BecameResident
    | CouldNotLoad
    | LoadedThere
    | PlaceDecided
    | EngineProgressed
    | FirstToken
    | AnswerBegun
    | AttemptEnded
    | ClientGone
    | Abandoned
    | CutShort
    | DeadlinePassed
    | TableChanged
)


@dataclass(slots=True)
class Ask:
    """Send ``attempt`` to its target; report ``NotSent`` when it cannot be sent."""

    attempt: Attempt


@dataclass(slots=True)
class MakeResident:
    """Have what ``attempt`` asks for loaded here; report ``BecameResident`` or ``CouldNotLoad``."""

    attempt: Attempt


@dataclass(slots=True)
class Hold:
    """Keep ``attempt`` until its place is decided, and report ``PlaceDecided`` then."""

    attempt: Attempt


@dataclass(slots=True)
class Cancel:
    """Cut ``attempt``, sent, held or loading; no further event may be reported for it."""

    attempt: Attempt


@dataclass(slots=True)
class WriteHead:
    """Pass the answer of ``attempt`` to the client, with a response head first if none was sent."""

    attempt: Attempt


@dataclass(slots=True)
class WriteHeartbeat:
    """Send the client a sign of life, with a response head first if none was sent."""

    attempt: Attempt | None


@dataclass(slots=True)
class WriteEnd:
    """Write the end of the stream of ``attempt``.

    Follows ``Account``, so that the account can be made durable before the client sees the end.
    """

    attempt: Attempt


@dataclass(slots=True)
class RespondWhole:
    """Send the whole response of ``attempt``."""

    attempt: Attempt


@dataclass(slots=True)
class RespondError:
    """Send an error response."""

    error: EdgeForgeError


@dataclass(slots=True)
class WriteErrorEvent:
    """End a started stream with an error event.

    ``refused`` is the attempt whose engine sent the error response to pass on; without it,
    ``error`` is sent.
    """

    error: EdgeForgeError
    refused: Attempt | None = None


@dataclass(slots=True)
class CutClient:
    """Close the connection of a client that does not read."""


@dataclass(slots=True)
class Account:
    """Make the request's usage record durable; its tokens and cost are now in its log.

    The commands behind it are performed once that is done.
    """


Command = (
    Ask
    | MakeResident
    | Hold
    | Cancel
    | WriteHead
    | WriteHeartbeat
    | WriteEnd
    | RespondWhole
    | RespondError
    | WriteErrorEvent
    | CutClient
    | Account
)
