"""Fourteen months of requests, cards, payments and operators, with the books beside them."""

from __future__ import annotations

import random
from dataclasses import replace

from coordinator.billing import account_credits, collection, customers, invoices
from coordinator.billing.account_credits import NewCredit
from coordinator.core.grants import CreditKind
from coordinator.core.price_card import first_card, numbered
from coordinator.core.usage_batch import SpoolBatch
from coordinator.store import accounts, deployments, keys, prices
from protos.domain.customers import Account
from protos.domain.price_card import CardState
from protos.domain.resources import Deployment, SlaTier, Tier
from protos.domain.usage_record import (
    BillingReason,
    UsageCause,
    UsageRecord,
)
from protos.wire.usage import encode_record
from tests.support.billed_year import Cards, enrol
from tests.support.stores import MODEL, api_key
from tests.support.year_oracle import (
    CENT,
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    Card,
    Oracle,
    at_ms,
    month_of,
)
from tests.support.year_spools import Spool, counted, request_of

START, END = at_ms(2027, 12, 1, 6), at_ms(2029, 2, 5)
YEAR_MS = 366 * DAY_MS
COUNTRIES = (("DE", ""), ("FR", "FR12345678901"), ("FR", ""), ("US", ""), ("", ""))
NAMES = [f"a{number:02d}" for number in range(30)]
PREPAID = frozenset(NAMES[0:8])
CAPPED = {name: (number + 1) * 40 * CENT for number, name in enumerate(NAMES[6:16])}
#: Its records stay in their zone: the coordinator gets sums.
BOUND = NAMES[20]
SLAS = (SlaTier.REALTIME, SlaTier.INTERACTIVE, SlaTier.STANDARD)
NODES = {"gru-1": ("GRU", Tier.EDGE), "iad-1": ("IAD", Tier.CENTRAL)}
#: When the price card changes: at the month's edge, on the leap day, in the hour of summer time.
CARD_CHANGES = (at_ms(2028, 1), at_ms(2028, 2, 29, 12), at_ms(2028, 3, 26, 1), at_ms(2028, 8, 17))
#: The leap day's end, the changes of summer time in Europe and America, the end of the year.
EDGES = (at_ms(2028, 3), at_ms(2028, 3, 12, 7), at_ms(2028, 10, 29, 1), at_ms(2029, 1))


class YearOfRequests:
    """The world, which is drawn by a seed, and the oracle that is told of it."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.provider = Cards(self.decide)
        countries = {name: COUNTRIES[n % len(COUNTRIES)] for n, name in enumerate(NAMES)}
        self.oracle = Oracle(
            {name: one for name, (one, _) in countries.items()},
            {name: one for name, (_, one) in countries.items()},
            PREPAID,
            CAPPED,
        )
        self.spools = [Spool(node, n) for n, node in enumerate([*NODES, "gru-1"])]
        self.traces = 0
        self.rates: dict[str, tuple[int, int, int]] = {}
        self.percent: dict[SlaTier, int] = {}
        self.version = 0
        #: Invoices whose payments were told to the coordinator, by key.
        self.told: set[str] = set()
        self.changes = sorted(CARD_CHANGES)
        self.checks = 0
        self.restarts = 0
        self.held = 0
        self.jumped = 0
        self.states: set[str] = set()
        self.outcomes: set[str] = set()

    # --- the world ---

    def decide(self, key: str) -> str:
        """Return what comes of a charge."""
        outcome = self._outcome(key)
        self.outcomes.add(outcome)
        return outcome

    def _outcome(self, key: str) -> str:
        """Return it by the script: two accounts have cards that are declined for months."""
        number = key.rpartition("-")[0]
        if number.startswith("EF-"):
            bill = self.oracle.bill(number)
            if bill.account in NAMES[16:18] and bill.month % 100 in (2, 3, 9):
                return "declined"
            return self.draw.choices(
                ("paid", "declined", "pending", "away", "lost"), (80, 8, 4, 4, 4)
            )[0]
        return "paid"

    async def begin(self, world) -> None:
        self.world = world
        await enrol(world)
        await world.store.write(prices.begin(first_card("ana", world.clock())))
        self.read_card()
        for number, name in enumerate(NAMES):
            await world.store.write(accounts.create(Account(name)))
            await world.store.write(
                deployments.put(
                    Deployment(
                        *(f"d-{name}", name, MODEL.name, "", 80, SLAS[number % 3], ()),
                        strict=False,
                    ),
                    ["gru-1"],
                    create_only=True,
                )
            )
            await world.store.write(keys.create(api_key(f"k-{name}", name), world.clock()))
            known = customers.BilledAccount(
                name,
                country=self.oracle.country[name],
                vat_id=self.oracle.vat_id[name],
                prepaid=name in PREPAID,
                cap_nano_usd=CAPPED.get(name, 0),
                alert_email=f"{name}@cfo.example",
            )
            await world.database.write(lambda one, known=known: customers.save(one, known))
        await world.billing.changed()

    def read_card(self) -> None:
        """Read what agents are told of the card in force."""
        view = self.world.store.view()
        terms = view.card["terms"]
        self.version = terms.version
        self.oracle.cards[terms.version] = Card(
            terms.version, terms.promise_percent, terms.credit_percent
        )
        for tier in ("edge", "central"):
            line = view.prices["xs", Tier(tier)]
            self.rates[tier] = (
                line.prompt_nano_usd_per_token,
                line.cached_nano_usd_per_token,
                line.completion_nano_usd_per_token,
            )
        self.percent = dict(
            zip(
                SLAS,
                (terms.realtime_percent, terms.interactive_percent, terms.standard_percent),
                strict=True,
            )
        )

    async def change_card(self) -> None:
        present = self.world.store.price_cards()[self.version]
        lines = tuple(
            replace(
                one,
                prompt_nano_usd_per_token=one.prompt_nano_usd_per_token + self.draw.randint(1, 9),
            )
            for one in present.lines
        )
        terms = replace(
            present.terms,
            promise_percent=self.draw.choice((90, 95, 99)),
            credit_percent=self.draw.choice((5, 10, 25)),
            realtime_percent=present.terms.realtime_percent + 7,
        )
        draft = replace(numbered(present, 0, 0), lines=lines, terms=terms, state=CardState.DRAFT)
        draft = numbered(draft, 0, 0)
        made = await self.world.store.write(prices.propose(draft, lambda *one: None))
        await self.world.store.write(prices.publish(made.version, "ana", lambda *one: None))
        self.read_card()

    def use(self, name: str, began: int) -> None:
        """Make one request, into a spool."""
        draw = self.draw
        bound = name == BOUND
        spool = self.spools[2] if bound else self.spools[draw.randrange(2)]
        serving = draw.choice(list(NODES))
        pop, tier = NODES[serving]
        sla = SLAS[NAMES.index(name) % 3]
        prompt = draw.choice((draw.randint(1, 50), draw.randint(1, 2_000_000)))
        cached, completion = draw.randint(0, prompt), draw.choice((1, 40, 200_000))
        cause = draw.choices(
            (UsageCause.COMPLETE, UsageCause.CLIENT_GONE, UsageCause.FAILED), (90, 6, 4)
        )[0]
        free = cause is UsageCause.FAILED
        rates = [(rate * (100 + self.percent[sla]) + 50) // 100 for rate in self.rates[str(tier)]]
        nano = (prompt - cached) * rates[0] + cached * rates[1] + completion * rates[2]
        # Every third month is a bad one for streams of the strict tiers.
        slow = 0.3 if month_of(began) % 3 == 0 and sla is not SlaTier.STANDARD else 0.01
        ttft = draw.randint(80_001, 900_000) if draw.random() < slow else draw.randint(500, 80_000)
        self.traces += 1
        record = UsageRecord(
            trace_id=f"{self.traces:032x}",
            began_unix_ms=began,
            account=name,
            key_id=f"k-{name}",
            deployment=f"d-{name}",
            model=MODEL.name,
            size_class="xs",
            sla_tier=sla,
            path="/v1/chat/completions",
            stream=draw.random() < 0.8,
            status=502 if free else 200,
            cause=cause,
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=0 if free else completion,
            tier_served=tier,
            tier_billed=None if free else tier,
            billing_reason=BillingReason.FREE if free else BillingReason.CHEAPEST,
            prompt_nano_usd_per_token=rates[0],
            cached_nano_usd_per_token=rates[1],
            completion_nano_usd_per_token=rates[2],
            nano_usd=0 if free else nano,
            card_version=self.version,
            serving_node=serving,
            serving_pop=pop,
            ingress_pop=NODES[spool.node][0],
            budget_ms=80,
            ttft_us=0 if free else ttft,
            stream_us=0 if free else draw.randint(1_000, 3_000_000),
            predicted_miss=draw.random() < 0.05,
        )
        if not bound and draw.random() < 0.01:
            # An agent that asks for more than the card says: held, and never billed.
            spool.waiting.append((replace(record, nano_usd=record.nano_usd + 1), None))
            self.held += 1
            return
        spool.waiting.append((record, request_of(record, is_raw=not bound)))

    # --- agents ---

    async def send(self, spool: Spool) -> None:
        """Send all that waits, once or more often."""
        if not spool.waiting or self.world.clock() < spool.away_until:
            return
        some, spool.waiting = spool.waiting[:400], spool.waiting[400:]
        now = self.world.clock()
        first, spool.next = spool.next, spool.next + len(some)
        bound = spool is self.spools[2]
        batch = SpoolBatch(
            node=spool.node,
            spool=spool.name,
            first_seq=first,
            last_seq=spool.next - 1,
            records=[]
            if bound
            else [(first + n, encode_record(r)) for n, (r, _) in enumerate(some)],
            counters=[counted(r) for r, _ in some] if bound else (),
            arrived_unix_ms=now,
            enrolled_unix_ms=START - DAY_MS,
        )
        outcome = await self.world.ingest.push(batch)
        assert not outcome.refused, outcome
        new = [request for _, request in some if request is not None]
        assert bound or outcome.taken == len(new)
        for one in new:
            # A request cannot begin after its record has arrived.
            if not bound and one.began > now + 2 * MINUTE_MS:
                one.began = now
        self.oracle.commit(new)
        spool.sent.append(batch)
        for again in self.draw.sample(spool.sent, min(len(spool.sent), self.draw.randrange(3))):
            outcome = await self.world.ingest.push(again)
            assert outcome.taken == 0

    # --- time ---

    async def step(self) -> None:
        world, draw = self.world, self.draw
        before = world.clock()
        stops = [one for one in (*self.changes, *EDGES) if one > before]
        now = min([before + draw.randint(6, 30) * HOUR_MS + draw.randrange(HOUR_MS), *stops])
        world.forward(now - before)
        began = sorted(
            (draw.randrange(before, now), name) for name in NAMES for _ in range(draw.randrange(4))
        )
        for at, name in began:
            stopped = world.store.view().accounts[name].state == "suspended"
            if not stopped and world.billing.remaining_of(name) != 0:
                self.use(name, at)
        # Agents' estimates of the clock are ahead by up to two minutes, over a month's edge too.
        self.use(NAMES[-1], now + draw.randrange(90_000))
        if self.changes and now >= self.changes[0]:
            self.changes.pop(0)
            await self.change_card()
        # Twice the same is steady, and believed: a jump is over by the next look.
        jumped = 0 if self.jumped else draw.choices((0, -HOUR_MS, YEAR_MS), (94, 3, 3))[0]
        self.jumped = jumped
        world.clock.unix_ms += jumped
        for spool in self.spools:
            await self.send(spool)
        await self.tick(believed=not jumped)
        world.clock.unix_ms -= jumped
        if draw.random() < 0.02:
            draw.choice(self.spools).away_until = now + draw.randint(1, 40) * DAY_MS
        if draw.random() < 0.06:
            self.restarts += 1
            await world.close()
            # The coordinator is away for up to a week; agents keep what they have.
            world.clock.unix_ms += draw.choice((0, 0, draw.randrange(6 * DAY_MS)))
            world.mono.unix_ms = 7
            await world.open()
            await self.tick(believed=True)
        elif not jumped:
            await self.act()
        await self.world.billing.changed()
        self.compare_funds()

    async def tick(self, *, believed: bool) -> None:
        world, now = self.world, self.world.clock()
        if believed:
            self.oracle.expire(now)
            self.oracle.close(now)
        asked = len(self.provider.asked)
        await world.billing.tick()
        assert believed or len(self.provider.asked) == asked
        self.settle()
        # A clock that is not believed moves no period.
        self.oracle.note_alerts(now if believed else now - self.jumped)
        if believed:
            for name in NAMES:
                state = world.store.view().accounts[name].state
                self.states.add(str(state))
                assert state == self.oracle.state(name, now), (name, state)

    def settle(self) -> None:
        """Write down what the provider has told as paid."""
        for key in dict.fromkeys(self.provider.succeeded):
            if key not in self.told:
                self.told.add(key)
                account, amount = self.provider.taken[key]
                if key.startswith("EF-"):
                    self.oracle.pay(key.rpartition("-")[0], amount, self.world.clock())
                else:
                    self.oracle.give(account, "prepaid", amount * CENT, self.world.clock())

    async def act(self) -> None:
        """Do what customers and operators do between two looks of the clock."""
        world, draw, now = self.world, self.draw, self.world.clock()
        for name in sorted(PREPAID):
            if world.billing.remaining_of(name) == 0 and draw.random() < 0.5:
                await world.billing.collection.top_up(name, draw.randint(50, 900))
                self.settle()
        if draw.random() < 0.1:
            name, nano = draw.choice(NAMES), draw.randint(1, 300 * CENT)
            expires = now + draw.randint(1, 40 * 24) * HOUR_MS if draw.random() < 0.8 else 0
            new = NewCredit(name, CreditKind.GRANT, nano, "why", "ana", expires)
            await world.database.write(lambda one: account_credits.give(one, new, now))
            self.oracle.give(name, "grant", nano, now, expires)
        bills = [one for one in self.oracle.bills if one.total > one.credited]
        if bills and draw.random() < 0.08:
            bill = draw.choice(bills)
            amount = draw.randint(1, bill.total - bill.credited)
            await world.database.write(
                lambda one: invoices.credit_note(one, bill.number, amount, "wrong model", now)
            )
            self.oracle.credit_note(bill.number, amount, now)
        for key in list(self.provider.pending):
            for _ in range(draw.randrange(3)):
                await world.billing.payment_event(key.encode(), "right")
                self.settle()
        # Those whose cards are declined pay by a transfer, once they have been suspended.
        for bill in self.oracle.bills:
            if bill.open and now > bill.due_at + 25 * DAY_MS and not self.busy(bill.number):
                await world.database.write(
                    lambda one, bill=bill: collection.paid_otherwise(one, bill.number, now, "wire")
                )
                self.oracle.pay(bill.number, bill.open, now)

    def busy(self, number: str) -> bool:
        return any(key.startswith(f"{number}-") for key in self.provider.pending)

    # --- comparisons ---

    def compare_funds(self) -> None:
        now = self.world.clock()
        for name in NAMES:
            assert self.world.billing.remaining_of(name) == self.oracle.remaining(name, now), name
