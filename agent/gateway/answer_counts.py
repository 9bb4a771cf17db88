"""The tokens of an answer: as its engine counted them; a peer's counts within bounds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from agent.core.usage_bounds import UsageCheck
from agent.formats.asked_tokens import asked_tokens
from agent.formats.generated_text import whole_text_bytes
from agent.formats.usage import checked_counts, read_usage
from agent.relay import exchange
from agent.relay.far_times import read_far_times
from protos.domain.pricing import Usage

if TYPE_CHECKING:
    from agent.core.request.context import RequestContext
    from agent.core.request.state import RouterState
    from agent.formats.body import GenerationBody
    from agent.relay.client_answer import ClientAnswer
    from protos.domain.trace import FarTimes


class AnswerCounts:
    """Reads the counts of one request's answers."""

    __slots__ = ("_body", "_context", "_sent", "_state")

    def __init__(
        self, body: GenerationBody, sent: bytes, context: RequestContext, state: RouterState
    ) -> None:
        self._body = body
        #: The request's body as the client sent it.
        self._sent = sent
        self._context = context
        self._state = state

    def of(self, answer: ClientAnswer) -> tuple[Usage | None, FarTimes | None]:
        """Return the tokens that the engine has reported so far, and the peer's times."""
        far = read_far_times(answer.headers) if answer.attempt.place is None else None
        if answer.started and answer.events is not None:
            found = answer.events.usage()
            if found is None and answer.events.events:
                # The engine has not counted: what the client has received is one token an event.
                return Usage(0, 0, answer.events.events), far
        elif answer.status == 200 and answer.ending is exchange.Ending.COMPLETE:
            found = self._body.api.body_usage(answer.body)
            if found is not None and answer.attempt.place is None:
                found = self._believed(answer, found)
        else:
            found = None
        return None if found is None else read_usage(found), far

    def is_visible(self, answer: ClientAnswer, usage: Usage) -> bool:
        """Whether a whole answer has something for its client to see.

        More tokens than the free ends of its sequences count as that, so that few are parsed.
        """
        if self._body.api.embeds or usage.completion_tokens > self._body.free_ends:
            return True
        return whole_text_bytes(answer.body) > 0

    def check(self) -> UsageCheck:
        """Return the check of other hosts' counts for this request."""
        context = self._context
        check = context.usage_check
        if check is None:
            body, deployment = self._body, context.deployment
            model = context.view.models.get(deployment.model)
            context_tokens = 0 if model is None else model.context_tokens
            check = context.usage_check = UsageCheck(
                asked_tokens(
                    body.api, body.fields, self._sent, context_tokens, has_media=body.has_media
                ),
                partial(self._state.prompt_tokens.estimate, deployment.name, len(self._sent)),
            )
        return check

    def _believed(self, answer: ClientAnswer, counted: dict[str, object]) -> dict[str, object]:
        """Return what to believe of a peer's count for a whole answer."""
        node_id = answer.attempt.node_id
        size_bytes = 0 if self._body.api.embeds else whole_text_bytes(answer.body)
        believed = checked_counts(self.check(), node_id, counted, 0, size_bytes)
        if believed is not counted:
            answer.recounted = believed
        return believed
