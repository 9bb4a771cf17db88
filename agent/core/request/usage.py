"""What a request is billed: whether it costs anything, its tier, and the record of it. Pure.

Billed is what an engine has counted of the answer that the client gets, at the price of the
request's admission. Decided here: what is free. Losers of second copies, replaced attempts and
requests of this agent's own appear nowhere in it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from protos.domain.pricing import MAX_TOKENS, Usage, rate_nano_usd_per_1k_tokens
from protos.domain.resources import SlaTier, Tier
from protos.domain.usage_record import BillingReason, UsageCause, UsageRecord

if TYPE_CHECKING:
    from agent.core.request.context import RequestContext
    from agent.core.request.log import RequestLog
    from protos.domain.router import Placement

_UNPRICED = 1 << 62
#: What an SLA tier is sold as at the shortest; standard is no faster than interactive.
_SOLD_AS_MS = {SlaTier.REALTIME: 80.0, SlaTier.INTERACTIVE: 200.0, SlaTier.STANDARD: 200.0}
#: Ends that a customer can choose: it leaves, or takes back its own key or deployment.
_ENDED_BY_CLIENT = (UsageCause.CLIENT_GONE, UsageCause.REVOKED)
#: Looked up, because a call of an enumeration takes longer than the rest of a field.
_TIERS: dict[str, Tier] = {str(tier): tier for tier in Tier}
#: A longer budget is a day's on the record.
_MAX_BUDGET_MS = 86_400_000.0
#: Of a request whose client was sent no head. 499 is what nginx logs for a client that has left.
_STATUS_WITHOUT_HEAD = {UsageCause.CLIENT_GONE: 499}


def is_empty(usage: Usage, *, of_prompt: bool, visible: bool, free_ends: int) -> bool:
    """Whether an answer is free because nothing was made. Hot.

    An embedding is made of its prompt, and so is what tells of its prompt (``of_prompt``). All else
    must have generated: an answer without anything to see (``visible``) whose engine counts no more
    than the ends of its sequences (``free_ends``) is empty too.
    """
    if of_prompt:
        return usage.prompt_tokens == 0
    completion_tokens = usage.completion_tokens
    return completion_tokens == 0 or (not visible and completion_tokens <= free_ends)


def counted_until(cause: UsageCause, usage: Usage, context: RequestContext) -> Usage:
    """Return what is billed of ``usage``: of a stream that its client ended, the prompt too.

    Some engines count the prompt in the last event only, so that whoever leaves before it would pay
    for no prompt. What no prompt of that text falls below takes its place.
    """
    if cause not in _ENDED_BY_CLIENT or usage.prompt_tokens or not usage.completion_tokens:
        return usage
    return Usage(min(context.prompt_tokens, MAX_TOKENS), 0, usage.completion_tokens)


def ended_as(
    cause: UsageCause, usage: Usage, context: RequestContext, *, visible: bool
) -> tuple[UsageCause, bool]:
    """Return the cause of an end, and whether the request is free. Hot.

    An answer that came to its end without anything made is EMPTY. What failed is free whatever was
    counted; what was cut is free if nothing was made until then.
    """
    if cause is UsageCause.FAILED:
        return cause, True
    free_ends = context.sequences if context.free_ends < 0 else context.free_ends
    # of a cut answer something must have come: before its first token it costs nothing
    told = context.tells_prompt and (visible or cause is UsageCause.COMPLETE)
    of_prompt = context.embeds or told
    if not is_empty(usage, of_prompt=of_prompt, visible=visible, free_ends=free_ends):
        return cause, False
    return UsageCause.EMPTY if cause is UsageCause.COMPLETE else cause, True


def billed_as_before(context: RequestContext, placement: Placement, before: Placement) -> Placement:
    """Return ``placement``, billed as ``before`` unless it is cheaper. Not hot: a retry.

    That another target was asked, or asked again, is not the customer's affair: it pays the
    cheapest tier that was predicted in time at any of the request's placements.
    """
    if _rate(context, before.billing_tier) > _rate(context, placement.billing_tier):
        return placement
    return billed_as(placement, before)


def billed_as(placement: Placement, before: Placement) -> Placement:
    """Return ``placement`` with what ``before`` is billed, and why."""
    return replace(
        placement, billing_tier=before.billing_tier, billed_as_miss=before.billed_as_miss
    )


def _rate(context: RequestContext, tier: Tier) -> int:
    price = context.price(tier)
    return _UNPRICED if price is None else rate_nano_usd_per_1k_tokens(price)


def promised_ms(context: RequestContext) -> float:
    """Return the time of the first token by which the promise of the SLA tier is judged.

    A header may ask for less than its deployment's budget, and a deployment for less than its tier
    is sold as: that is placed as it asks, and promised to nobody. Else whoever asks for what cannot
    be had would be credited each month.
    """
    deployment = context.deployment
    promised = max(context.budget_ms, float(deployment.ttft_budget_ms))
    return min(max(promised, _SOLD_AS_MS[deployment.sla_tier]), _MAX_BUDGET_MS)


def usage_record(
    log: RequestLog, context: RequestContext, ingress_pop: str, clock_offset_ms: float
) -> UsageRecord:
    """Return the record of a request that has been accounted. Hot: once a request.

    ``clock_offset_ms`` is how far this host's clock is behind the coordinator's.
    """
    model = context.view.models.get(context.deployment.model)
    deployment, usage, price, cold = context.deployment, log.usage, log.price, log.cold_start
    felt_ms, served = log.felt_ttft_ms, log.node_id != ""
    prompt_rate = cached_rate = completion_rate = 0
    if price is not None:
        prompt_rate = price.prompt_nano_usd_per_token
        cached_rate = price.cached_nano_usd_per_token
        completion_rate = price.completion_nano_usd_per_token
    return UsageRecord(
        trace_id=log.trace_id,
        began_unix_ms=log.began_unix_ms + round(clock_offset_ms),
        account=context.account,
        key_id=context.key_id,
        deployment=deployment.name,
        model=deployment.model,
        size_class="" if model is None else model.size_class,
        sla_tier=deployment.sla_tier,
        path=log.path,
        stream=context.stream,
        status=log.status or _STATUS_WITHOUT_HEAD.get(log.cause, 500),
        cause=log.cause,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        tier_served=_TIERS[log.serving_tier] if served else None,
        tier_billed=_TIERS[log.billing_tier] if served else None,
        billing_reason=BillingReason.FREE if price is None else log.billing_reason,
        prompt_nano_usd_per_token=prompt_rate,
        cached_nano_usd_per_token=cached_rate,
        completion_nano_usd_per_token=completion_rate,
        nano_usd=log.cost.total_nano_usd,
        card_version=log.card_version,
        serving_node=log.node_id,
        serving_pop=log.pop_id if served else "",
        ingress_pop=ingress_pop,
        budget_ms=round(promised_ms(context)),
        ttft_us=0 if felt_ms is None else max(1, round(felt_ms * 1_000.0)),
        stream_us=round(log.stream_ms * 1_000.0),
        predicted_miss=log.predicted_miss,
        usage_exceeded=log.usage_exceeded,
        cold_path="" if cold is None else str(cold.path),
        cold_us=0 if cold is None else max(0, round(log.cold_wait_ms * 1_000.0)),
        zones=context.bound_zones,
        service_tier=context.service_tier,
    )
