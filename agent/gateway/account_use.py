"""Counts one request for the limits of its key and account, from its admission to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.engine_admission import START_COMPLETION_TOKENS
from agent.core.money_leases import CostBound, cost_bound
from agent.formats.asked_tokens import asked_tokens

if TYPE_CHECKING:
    from agent.core.request.log import RequestLog
    from agent.gateway.authentication import Caller
    from agent.gateway.context import GatewayContext
    from agent.gateway.runner import RequestRunner


def begin_use(
    gateway: GatewayContext,
    caller: Caller,
    runner: RequestRunner,
    sent: bytes,
    now_mono_ms: float,
    *,
    may_wait: bool,
) -> None:
    """Reserve what the request of ``runner`` may use, in one step. Hot without limits.

    ``sent`` is its body.
    Raises: RateLimited, InsufficientQuota, LinkDown; LeaseWanted if it ``may_wait``.
    """
    account, key = caller.account, caller.key
    if account.limits.unlimited and key.limits.unlimited and not account.funded:
        return
    context = runner.context
    prompt_tokens = gateway.state.prompt_tokens.estimate(
        context.deployment.name, context.body_bytes
    )
    answer_tokens = min(context.max_answer_tokens, START_COMPLETION_TOKENS)
    unix_ms = gateway.now_unix_ms()
    runner.use = use = gateway.account_limits.begin(
        account,
        key,
        context.sequences,
        prompt_tokens + context.sequences * answer_tokens,
        now_mono_ms,
        bound=_bound(runner, sent) if account.funded else None,
        may_wait=may_wait,
        now_unix_ms=unix_ms,
    )
    if use is not None:
        reply = runner.reply
        reply.heads.limits = reply.api.words.rate_headers(use.rates(now_mono_ms, unix_ms))


def end_use(gateway: GatewayContext, runner: RequestRunner, log: RequestLog) -> None:
    """Count the end of the request of ``runner``."""
    if runner.use is not None:
        used = log.usage
        tokens = used.prompt_tokens + used.completion_tokens
        gateway.account_limits.end(runner.use, float(tokens), log.cost.total_nano_usd)


def _bound(runner: RequestRunner, sent: bytes) -> CostBound:
    """Return what the request may cost at most; ``sent`` is its body."""
    body, context = runner.body, runner.context
    model = context.view.models.get(context.deployment.model)
    asked = asked_tokens(
        body.api,
        body.fields,
        sent,
        0 if model is None else model.context_tokens,
        has_media=body.has_media,
    )
    return cost_bound(context.view, context.deployment, asked)
