"""What a node is believed of a record: only what the fleet has known, at the card's rates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from coordinator.core.card_times import CardTimes
from coordinator.core.usage_facts import Fact, FactReader
from protos.domain.pricing import MAX_TOKENS, surcharged
from protos.domain.resources import CardTerms, Price, SlaTier, Tier
from protos.domain.usage_record import BillingReason, UsageCause, UsageSums

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView
    from protos.domain.usage_counters import CounterSums
    from protos.domain.usage_record import UsageRecord

_MAX_VERDICTS = 65_536
_MAX_DURATION_US = 40 * 86_400_000_000
_MAX_BUDGET_MS = 86_400_000
_FREE_CAUSES = (UsageCause.EMPTY, UsageCause.FAILED)
_MAX_TEXT_CHARS = 128


class KnownFleet:
    """Everything that was ever in the routing table, as far as usage names it.

    Facts are only added: a record may come a week after its deployment was removed.
    """

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        self._facts: set[Fact] = set()
        self._rates: dict[tuple[int, str, str], list[Price]] = {}
        self._terms: dict[int, list[CardTerms]] = {}
        self._sizes: dict[str, set[str]] = {}
        self._reader = FactReader()
        self._right: set[tuple[object, ...]] = set()
        self._cards = CardTimes()
        #: Accounts of each key, and keys that were ever bound to zones.
        self._accounts_of: dict[str, set[str]] = {}
        self._bound_keys: set[str] = set()
        for fact in facts:
            self.add(fact)

    def add(self, fact: Fact) -> bool:
        """Remember ``fact``; return whether it is new."""
        if fact in self._facts:
            return False
        self._facts.add(fact)
        if fact[0] == "card":
            self._cards.add(int(fact[1]), int(fact[2]))
        elif fact[0] == "key":
            self._accounts_of.setdefault(str(fact[1]), set()).add(str(fact[2]))
        elif fact[:2] == ("pinned", "key"):
            self._bound_keys.add(str(fact[2]))
        elif fact[0] == "price":
            _, size_class, tier, prompt, cached, completion, version = fact
            price = Price(
                str(size_class),
                Tier(str(tier)),
                int(prompt),
                int(cached),
                int(completion),
                int(version),
            )
            self._rates.setdefault((price.card_version, str(size_class), str(tier)), []).append(
                price
            )
        elif fact[0] == "terms":
            version, realtime, interactive, standard, residency = (int(one) for one in fact[1:])
            terms = CardTerms(version, 0, realtime, interactive, standard, residency)
            self._terms.setdefault(version, []).append(terms)
        elif fact[0] == "model":
            self._sizes.setdefault(str(fact[1]), set()).add(str(fact[2]))
        return True

    def observe(self, view: FleetView) -> list[Fact]:
        """Remember what ``view`` shows; return what is new. Skips tables that have not changed."""
        new = [fact for fact in self._reader.changed(view) if self.add(fact)]
        if any(fact[0] in ("price", "terms") for fact in new):
            self._right.clear()
        return new

    def problem(self, record: UsageRecord, node: str) -> str:
        """Return why ``record`` of the agent ``node`` cannot be, empty if it can. Hot."""
        combination = (
            node,
            record.account,
            record.key_id,
            record.deployment,
            record.model,
            record.size_class,
            record.sla_tier,
            record.tier_served,
            record.tier_billed,
            record.billing_reason,
            record.prompt_nano_usd_per_token,
            record.cached_nano_usd_per_token,
            record.completion_nano_usd_per_token,
            record.card_version,
            record.serving_node,
            record.serving_pop,
            record.ingress_pop,
            record.zones,
        )
        if combination not in self._right:
            if problem := self._who(record, node) or self._where(record) or self._rate(record):
                return problem
            if len(self._right) >= _MAX_VERDICTS:
                self._right.clear()
            self._right.add(combination)
        return _amounts(record)

    def card_problem(self, version: int, began_unix_ms: int) -> str:
        """Return why what is billed by ``version`` cannot have begun then, empty if it can."""
        return self._cards.problem(version, began_unix_ms)

    def counters_problem(self, counters: CounterSums, node: str) -> str:
        """Return why sums of the agent ``node`` cannot be, empty if they can."""
        key, sums = counters.key, counters.sums
        if ("node", node, key.ingress_pop) not in self._facts:
            return f"{node} was never in POP {key.ingress_pop!r}"
        if sums == UsageSums(shed=sums.shed) and not (key.account or key.deployment):
            return ""  # refused requests of more accounts and deployments than an agent tells apart
        of = ("deployment", key.deployment, key.account, key.model, key.sla_tier)
        if of not in self._facts:
            return f"no deployment {key.deployment!r} of this account, model and SLA tier"
        if key.tier_served and ("pop", key.serving_pop, key.tier_served) not in self._facts:
            return f"POP {key.serving_pop!r} is not {key.tier_served}"
        if not sums.cached_tokens <= sums.prompt_tokens:
            return "more cached than prompt tokens"
        if max(sums.billed, sums.seen, sums.streams, sums.predicted_misses) > sums.requests:
            return "more billed, seen, streamed or missed than requests"
        if max(sums.prompt_tokens, sums.completion_tokens) > sums.requests * MAX_TOKENS:
            return "more tokens than its requests can have"
        highest = self._highest(counters)
        if sums.nano_usd > highest:
            return f"{sums.nano_usd} nano-USD, at most {highest} by the price card"
        return ""

    def _highest(self, counters: CounterSums) -> int:
        key, sums = counters.key, counters.sums
        fresh = sums.prompt_tokens - sums.cached_tokens
        sla_tier = SlaTier(key.sla_tier)
        # Requests that only their header narrows are counted here too, without the surcharge.
        pinned = self._may_be_pinned(key.account, key.deployment)
        amounts = [
            fresh * price.prompt_nano_usd_per_token
            + sums.cached_tokens * price.cached_nano_usd_per_token
            + sums.completion_tokens * price.completion_nano_usd_per_token
            for size_class in self._sizes.get(key.model, ())
            for price in self._prices(
                key.card_version, size_class, key.tier_billed, sla_tier, pinned=pinned
            )
        ]
        return max(amounts, default=0)

    def _may_be_pinned(self, account: str, deployment: str) -> bool:
        """Whether the account, one of its keys or the deployment was ever bound to zones."""
        facts = self._facts
        return (
            ("pinned", "account", account) in facts
            or ("pinned", "deployment", deployment) in facts
            or any(account in self._accounts_of.get(key, ()) for key in self._bound_keys)
        )

    def _who(self, record: UsageRecord, node: str) -> str:
        facts = self._facts
        if ("account", record.account) not in facts:
            return f"there is no account {record.account!r}"
        if ("key", record.key_id, record.account) not in facts:
            return f"account {record.account!r} has no key {record.key_id!r}"
        of = ("deployment", record.deployment, record.account, record.model, record.sla_tier)
        if of not in facts:
            return f"no deployment {record.deployment!r} of this account, model and SLA tier"
        if record.size_class not in self._sizes.get(record.model, ()):
            return f"model {record.model!r} is not of size class {record.size_class!r}"
        if ("node", node, record.ingress_pop) not in facts:
            return f"{node} was never in POP {record.ingress_pop!r}"
        return ""

    def _where(self, record: UsageRecord) -> str:
        facts = self._facts
        if record.tier_served is None:
            return "" if record.nano_usd == 0 else "it is billed, and nobody served it"
        if ("node", record.serving_node, record.serving_pop) not in facts:
            return f"node {record.serving_node!r} was never in POP {record.serving_pop!r}"
        if ("pop", record.serving_pop, record.tier_served) not in facts:
            return f"POP {record.serving_pop!r} is not {record.tier_served}"
        if ("replica", record.serving_node, record.model) not in facts:
            return f"node {record.serving_node!r} never held {record.model!r}"
        for zone in record.zones:
            if ("zone", zone) not in facts:
                return f"there is no zone {zone!r}"
        return ""

    def _rate(self, record: UsageRecord) -> str:
        if record.billing_reason is BillingReason.FREE:
            return ""
        if record.tier_billed is None:
            return "it is billed by no tier"
        told = (
            record.prompt_nano_usd_per_token,
            record.cached_nano_usd_per_token,
            record.completion_nano_usd_per_token,
        )
        for pinned in (False, True) if self._was_pinned(record) else (False,):
            for price in self._prices(
                record.card_version,
                record.size_class,
                record.tier_billed,
                record.sla_tier,
                pinned=pinned,
            ):
                if told == (
                    price.prompt_nano_usd_per_token,
                    price.cached_nano_usd_per_token,
                    price.completion_nano_usd_per_token,
                ):
                    return ""
        return f"its rates are not those of price card {record.card_version}"

    def _was_pinned(self, record: UsageRecord) -> bool:
        """Whether the account, the key or the deployment was ever bound to zones.

        A header that narrows one request is free of the surcharge.
        """
        return bool(record.zones) and any(
            ("pinned", kind, name) in self._facts
            for kind, name in (
                ("account", record.account),
                ("key", record.key_id),
                ("deployment", record.deployment),
            )
        )

    def _prices(
        self, version: int, size_class: str, tier: str, sla_tier: SlaTier, *, pinned: bool
    ) -> Iterator[Price]:
        for price in self._rates.get((version, size_class, str(tier)), ()):
            for terms in self._terms.get(version) or (CardTerms(version),):
                yield surcharged(price, terms, sla_tier, pinned=pinned)


def _amounts(record: UsageRecord) -> str:
    """Return what is impossible of the numbers of one record. Hot."""
    prompt, cached, completion = (
        record.prompt_tokens,
        record.cached_tokens,
        record.completion_tokens,
    )
    if not 0 <= cached <= prompt <= MAX_TOKENS or not 0 <= completion <= MAX_TOKENS:
        return f"{cached} cached of {prompt} prompt and {completion} completion tokens"
    free = record.billing_reason is BillingReason.FREE or record.cause in _FREE_CAUSES
    expected = 0
    if not free:
        expected = (
            (prompt - cached) * record.prompt_nano_usd_per_token
            + cached * record.cached_nano_usd_per_token
            + completion * record.completion_nano_usd_per_token
        )
    if record.nano_usd != expected:
        return f"{record.nano_usd} nano-USD, its tokens and rates make {expected}"
    if free and record.cause is UsageCause.COMPLETE and completion > 0:
        return "a complete answer with tokens is free"
    if (
        record.ttft_us > _MAX_DURATION_US
        or record.stream_us > _MAX_DURATION_US
        or record.cold_us > _MAX_DURATION_US
        or record.budget_ms > _MAX_BUDGET_MS
        or not 100 <= record.status <= 599
    ):
        return "an impossible status, duration or budget"
    if (
        len(record.trace_id) > _MAX_TEXT_CHARS
        or len(record.path) > _MAX_TEXT_CHARS
        or len(record.cold_path) > _MAX_TEXT_CHARS
        or len(record.service_tier) > _MAX_TEXT_CHARS
    ):
        return "a text that is too long"
    return ""
