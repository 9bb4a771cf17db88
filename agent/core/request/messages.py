"""Events that the request machine is given, and commands that it returns."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.core.peer_load import PeerLoad
    from agent.core.request.attempt import Attempt
    from protos.domain.errors import EdgeForgeError
    from protos.domain.pricing import Usage
    from protos.domain.trace import FarTimes


class Ending(enum.StrEnum):
    """How an attempt's answer ended."""

    #: A whole response is here, of any status; the client has seen nothing of it.
    WHOLE = "whole"
    #: The last event of a stream is here.
    STREAM = "stream"
    #: No connection, a cut one, or an answer that cannot be read.
    LOST = "lost"


class Rest(enum.StrEnum):
    """What a broken stream still lacks, where its deployment lets streams be continued."""

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
    """``attempt`` was not sent: its target cannot be asked any more, or nothing is left to ask.

    ``rest`` matters where it would have continued a broken stream.
    """

    attempt: Attempt
    reason: str
    rest: Rest = Rest.UNKNOWN


@dataclass(slots=True)
class EngineProgressed:
    """The engine has generated something for ``attempt``, though no token for the client yet."""

    attempt: Attempt


@dataclass(slots=True)
class FirstToken:
    """The first content, reasoning or tool delta is here. ``load`` is what the peer reported."""

    attempt: Attempt
    load: PeerLoad | None


@dataclass(slots=True)
class AnswerBegun:
    """The answer must be passed on, though it has no token yet: it is over, or too long to hold."""

    attempt: Attempt


@dataclass(slots=True)
class AttemptEnded:
    """The answer of ``attempt`` has ended.

    ``status`` is 0 when no response head came. ``usage`` is what the engine counted, None when it
    did not say. ``far`` is what the peer said of its own time.
    """

    attempt: Attempt
    ending: Ending
    status: int
    reason: str = ""
    usage: Usage | None = None
    load: PeerLoad | None = None
    far: FarTimes | None = None
    rest: Rest = Rest.UNKNOWN


@dataclass(slots=True)
class ClientGone:
    """The client has left. ``usage`` is what the answer's engine has counted so far."""

    usage: Usage | None = None
    far: FarTimes | None = None


@dataclass(slots=True)
class Abandoned:
    """Whoever drives the machine has failed: the request ends, whatever the client is told."""


@dataclass(slots=True)
class DeadlinePassed:
    """``next_deadline_mono_ms`` may have come; early is harmless.

    ``client_stalled``: the client does not read what it was sent. ``usage`` and ``rest`` are those
    of the answer that goes to the client now.
    """

    client_stalled: bool = False
    usage: Usage | None = None
    rest: Rest = Rest.UNKNOWN


Event = (
    Begun
    | NotSent
    | EngineProgressed
    | FirstToken
    | AnswerBegun
    | AttemptEnded
    | ClientGone
    | Abandoned
    | DeadlinePassed
)


@dataclass(slots=True)
class Ask:
    """Send ``attempt`` to its target; report ``NotSent`` when it cannot be sent."""

    attempt: Attempt


@dataclass(slots=True)
class Cancel:
    """Cut ``attempt``; nothing more is to be reported of it."""

    attempt: Attempt


@dataclass(slots=True)
class WriteHead:
    """Let the answer of ``attempt`` pass to the client, behind a response head if none was sent."""

    attempt: Attempt


@dataclass(slots=True)
class WriteHeartbeat:
    """Show the client that its request is alive; a response head goes first if none was sent."""

    attempt: Attempt | None


@dataclass(slots=True)
class WriteEnd:
    """Write the end of the stream of ``attempt``.

    Comes behind ``Account``: what must be durable before the client sees the end is by then.
    """

    attempt: Attempt


@dataclass(slots=True)
class RespondWhole:
    """Send the whole response of ``attempt`` as it is."""

    attempt: Attempt


@dataclass(slots=True)
class RespondError:
    """Send an error response."""

    error: EdgeForgeError


@dataclass(slots=True)
class WriteErrorEvent:
    """End a stream that has begun with an error event.

    ``refused`` is the attempt whose engine's own error response says why, else ``error`` does.
    """

    error: EdgeForgeError
    refused: Attempt | None = None


@dataclass(slots=True)
class CutClient:
    """Close the client's connection: it does not read."""


@dataclass(slots=True)
class Account:
    """The request's tokens and cost are in its log."""


Command = (
    Ask
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
