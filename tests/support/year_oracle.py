"""What a year of requests must come to: plain integers over the list of requests, nothing else.

Nothing of the product is imported. Amounts are nano-USD, months are such as 202802.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime

CENT = 10_000_000
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
VAT_PERCENT = {"DE": 19, "FR": 20}


def at_ms(year: int, month: int, day: int = 1, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * 1_000


def month_of(unix_ms: int) -> int:
    when = datetime.fromtimestamp(unix_ms / 1_000, UTC)
    return when.year * 100 + when.month


def after(month: int) -> int:
    return month + 89 if month % 100 == 12 else month + 1


def end_of(month: int) -> int:
    return at_ms(after(month) // 100, after(month) % 100)


def cents(nano: int) -> int:
    return (nano + CENT // 2) // CENT


@dataclass
class Request:
    """One request as it happened, at the time at which it is to be counted."""

    account: str
    deployment: str
    sla: str
    tier: str
    card: int
    began: int
    prompt: int
    cached: int
    completion: int
    nano: int
    complete: bool
    stream: bool
    ttft_us: int
    stream_us: int
    budget_ms: int
    missed: bool
    pop: str
    key: str
    trace: str
    served: str
    is_raw: bool = True
    booked: int = 0

    @property
    def in_time(self) -> bool:
        return self.ttft_us <= self.budget_ms * 1_000


@dataclass
class Credit:
    id: int
    kind: str
    left: int
    created: int
    expires: int

    def good(self, unix_ms: int) -> bool:
        return self.left > 0 and (not self.expires or unix_ms < self.expires)


@dataclass
class Bill:
    number: str
    account: str
    month: int
    lines: dict[tuple, list[int]]
    gross: int
    net: int
    tax: int
    total: int
    prepaid: int
    due: int
    due_at: int
    credited: int = 0
    settled: int = 0

    @property
    def open(self) -> int:
        return self.due - self.settled


@dataclass
class Card:
    version: int
    promise: int
    credit: int


@dataclass
class Oracle:
    """The books of one operator, kept by hand."""

    country: dict[str, str]
    vat_id: dict[str, str]
    prepaid: frozenset[str]
    cap: dict[str, int]
    requests: list[Request] = field(default_factory=list)
    cards: dict[int, Card] = field(default_factory=dict)
    credits: dict[str, list[Credit]] = field(default_factory=lambda: defaultdict(list))
    #: account, month -> what grants and prepaid credits have paid
    paid: dict[tuple, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    bills: list[Bill] = field(default_factory=list)
    notes: list[tuple[str, str, int]] = field(default_factory=list)
    serials: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    alerts: set[tuple[str, int, str, int]] = field(default_factory=set)
    expired: int = 0
    closed: int = 0
    closed_at: list[int] = field(default_factory=list)
    last_credit: int = 0
    #: account, month -> requests: of what is open, so that no question reads a year.
    booked: dict[tuple[str, int], list[Request]] = field(default_factory=lambda: defaultdict(list))

    # --- usage and credits ---

    def commit(self, new: list[Request]) -> None:
        """Count what one batch has brought."""
        for one in new:
            one.booked = month_of(one.began)
            if one.booked <= self.closed:
                one.booked = after(self.closed)
            self.requests.append(one)
            self.booked[one.account, one.booked].append(one)
        for one in sorted(new, key=lambda one: (one.account, one.booked, one.began // MINUTE_MS)):
            self._pay(one)

    def _pay(self, one: Request) -> None:
        rest, minute = one.nano, one.began - one.began % MINUTE_MS
        order = sorted(
            self.credits[one.account],
            key=lambda c: (c.expires or 2**63, c.kind == "prepaid", c.created, c.id),
        )
        for credit in order:
            if rest and credit.good(minute):
                part = min(rest, credit.left)
                credit.left -= part
                rest -= part
                self.paid[one.account, one.booked][credit.kind == "prepaid"] += part

    def give(self, account: str, kind: str, nano: int, now: int, expires: int = 0) -> None:
        self.last_credit += 1
        expires = -(-expires // MINUTE_MS) * MINUTE_MS
        self.credits[account].append(Credit(self.last_credit, kind, nano, now, expires))

    def expire(self, now: int) -> None:
        for owned in self.credits.values():
            for one in owned:
                if one.left and one.expires and one.expires + HOUR_MS <= now:
                    self.expired += one.left
                    one.left = 0

    def left(self, account: str, now: int) -> int:
        return sum(one.left for one in self.credits[account] if one.good(now))

    def spent(self, account: str, month: int) -> int:
        return sum(one.nano for one in self.booked.get((account, month), ()))

    def counted(self, account: str, month: int) -> int:
        """Return what counts against a cap: what clocks that were ahead have booked later, too."""
        return sum(
            one.nano
            for (owner, booked), found in self.booked.items()
            if owner == account and booked >= month
            for one in found
        )

    def owes(self, account: str) -> int:
        """Return what no credit and no payment has covered, billed or not."""
        billed = {one.month for one in self.bills if one.account == account}
        unbilled = sum(
            sum(one.nano for one in found) - sum(self.paid[owner, month])
            for (owner, month), found in list(self.booked.items())
            if owner == account and month not in billed
        )
        return unbilled + CENT * sum(one.open for one in self.bills if one.account == account)

    def remaining(self, account: str, now: int) -> int | None:
        bounds = []
        if account in self.prepaid:
            bounds.append(self.left(account, now) - self.owes(account))
        if account in self.cap:
            bounds.append(self.cap[account] - self.counted(account, month_of(now)))
        return max(0, min(bounds)) if bounds else None

    def note_alerts(self, now: int) -> None:
        month = month_of(now)
        for account in {*self.prepaid, *self.cap}:
            spent = self.counted(account, month)
            limits = []
            if account in self.cap:
                limits.append(("cap", self.cap[account]))
            if account in self.prepaid:
                limits.append(("balance", spent + self.left(account, now)))
            for basis, limit in limits:
                for percent in (50, 80, 100):
                    if limit and spent * 100 >= limit * percent:
                        self.alerts.add((account, month, basis, percent))

    # --- months ---

    def close(self, now: int) -> None:
        """Close what is due and write its bills."""
        first = after(self.closed) if self.closed else min((m for _, m in self.booked), default=0)
        month, due = first, []
        while month and end_of(month) + 3 * DAY_MS <= now:
            due.append(month)
            month = after(month)
        self.closed = due[-1] if due else self.closed
        self.closed_at += due
        for month in due:
            for account in sorted({owner for owner, m in self.booked if m == month}):
                if self.spent(account, month):
                    self._bill(account, month, now)

    def _bill(self, account: str, month: int, now: int) -> None:
        lines: dict[tuple, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
        for one in self.booked[account, month]:
            key = (month_of(one.began), one.deployment, one.tier, one.sla, one.card)
            amounts = (1, one.prompt, one.cached, one.completion, one.nano)
            lines[key] = [old + new for old, new in zip(lines[key], amounts, strict=True)]
        gross = sum(cents(sums[-1]) for sums in lines.values())
        grants, prepaid = self.paid[account, month]
        if sum(sums[-1] for sums in lines.values()) > grants + prepaid:
            by_grants = min(cents(grants), gross)
            by_prepaid = min(cents(prepaid), gross - by_grants)
        else:
            by_grants = min(cents(grants), gross) if prepaid else gross
            by_prepaid = gross - by_grants
        owed, carried = self._sla(account, month, gross - by_grants - by_prepaid)
        net = gross - by_grants - owed
        tax = self._tax(account, net)
        serial = self._serial("EF", now)
        self.bills.append(
            Bill(
                *(serial, account, month, dict(lines), gross, net, tax, net + tax, by_prepaid),
                *(net + tax - by_prepaid, now + 14 * DAY_MS),
            )
        )
        if carried:
            self.give(account, "grant", carried, now)

    def _sla(self, account: str, month: int, most: int) -> tuple[int, int]:
        """Return the cents that the bill takes of what missed promises owe, and the rest."""
        taken = carried = 0
        for _, owed in sorted(self.sla_owed(account, month).items()):
            part = min(cents(owed), most - taken)
            taken += part
            carried += max(0, owed - part * CENT)
        return taken, carried

    def sla_owed(self, account: str, month: int) -> dict[str, int]:
        found = {}
        for sla in ("interactive", "realtime", "standard"):
            mine = [one for one in self.booked.get((account, month), ()) if one.sla == sla]
            streams = [one for one in mine if one.stream and one.ttft_us]
            good = sum(one.in_time for one in streams)
            for version, card in self.cards.items():
                charged = sum(one.nano for one in mine if one.card == version)
                if 100 * good < card.promise * len(streams):
                    found[sla] = found.get(sla, 0) + (charged * card.credit + 50) // 100
        return {sla: owed for sla, owed in found.items() if owed}

    def _tax(self, account: str, net: int) -> int:
        country = self.country[account]
        if country not in VAT_PERCENT or (self.vat_id[account] and country != "DE"):
            return 0
        return (net * VAT_PERCENT[country] * 2 + 100) // 200

    def _serial(self, prefix: str, now: int) -> str:
        year = month_of(now) // 100
        self.serials[prefix, year] += 1
        return f"{prefix}-{year}-{self.serials[prefix, year]:06d}"

    def credit_note(self, number: str, amount: int, now: int) -> None:
        bill = self.bill(number)
        lowered = min(amount, bill.open)
        bill.settled += lowered
        bill.credited += amount
        self.notes.append((self._serial("CN", now), number, amount))
        if amount > lowered:
            self.give(bill.account, "prepaid", (amount - lowered) * CENT, now)

    def pay(self, number: str, amount: int, now: int) -> None:
        bill = self.bill(number)
        part = min(amount, bill.open)
        bill.settled += part
        if amount > part:
            self.give(bill.account, "prepaid", (amount - part) * CENT, now)

    def bill(self, number: str) -> Bill:
        return next(one for one in self.bills if one.number == number)

    def state(self, account: str, now: int) -> str:
        due = [one.due_at for one in self.bills if one.account == account and one.open]
        days = (now - min(due)) // DAY_MS if due and min(due) <= now else -1
        if days < 0:
            return "active"
        return "suspended" if days >= 21 else "limited" if days >= 7 else "grace"
