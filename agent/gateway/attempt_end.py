"""The end of an attempt: as its request's machine is told, and by this agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.peer_load import load_of
from agent.core.request.messages import AttemptEnded, Ending, Rest
from agent.gateway.engine_request import rest_of
from agent.gateway.response_heads import is_refused_by_agent
from agent.loads import LoadWait
from agent.relay import exchange
from agent.relay.client_answer import ClientAnswer
from agent.relay.far_times import read_stale
from protos.domain.errors import Conflict

if TYPE_CHECKING:
    from agent.core.request.attempt import Attempt
    from agent.gateway.answer_counts import AnswerCounts

#: Refusals by which a peer's agent rejects this agent.
_NOT_THE_CLIENTS = (401, 403, 404)
#: By which a peer's agent refuses what is no longer in its engine.
_STALE_STATUS = Conflict.http_status


def attempt_ended(answer: ClientAnswer, counts: AnswerCounts) -> AttemptEnded:
    """Return the end of ``answer``, other than by this agent, with its tokens. Hot."""
    attempt, status = answer.attempt, answer.status
    of_peer = attempt.place is None
    stale, way = False, None
    if status == _STALE_STATUS and of_peer:
        stale, way = read_stale(answer.headers)
    if of_peer and status in _NOT_THE_CLIENTS and is_refused_by_agent(answer.headers):
        status = 503  # not about the client: another target is asked
    if answer.ending is exchange.Ending.LOST and not answer.unfit:
        ending = Ending.LOST
    else:
        ending = Ending.STREAM if answer.streamed else Ending.WHOLE
    load = None
    if of_peer and attempt.first_token_mono_ms is None:
        load = load_of(answer.headers)
    usage, far = counts.of(answer)
    rest = rest_of(answer.events) if answer.started else Rest.UNKNOWN
    ended = AttemptEnded(attempt, ending, status, answer.reason, usage, load, far, rest, stale, way)
    if ending is Ending.WHOLE and usage is not None:
        ended.visible = counts.is_visible(answer, usage)
    return ended


def cut(attempt: Attempt) -> None:
    """End what runs for ``attempt``: its exchange, or its wait for a load."""
    if isinstance(attempt.io, ClientAnswer):  # else it was held, and not sent yet
        attempt.io.abort()
    elif isinstance(attempt.io, LoadWait):
        attempt.io.give_up()
        attempt.io = None
