"""First tokens over a wide area: the product's placement beside three rivals, in simulated time.

    python -m tests.bench.wan [--seconds N] [--seed N] [--synthetic]

Five sites with the development fleet's round trips, two hosts in each but Lagos, each with an
engine of its tier: small and dear at the edge, large and cheap in the centre. Every host's agent
has its own ``RouterState``, runs one ``RequestMachine`` for each request, and learns of the others
by probes and answers only. Clock, network and engines are simulated; every decision is the
product's. Requests are those
of the public conversation trace where it is at hand, with bursts of four times the rate; else a
synthetic stream like it. A budget of 80 ms can be shown only here: the small real engine that this
project can run needs about 78 ms for a first token alone.

First tokens are the client's: its last mile is in them. The first minute, in which agents learn,
is not counted. Budgets are mixed in one run, and each has a run of its own ("alone"); "strict" is
the same with strict deployments, "price" with ``edge_fill_ratio = 0``. "settled" is the second half
of a run four times as long: an agent that has seen a target a hundred times knows no P99 yet.
Writes .bench/wan.json.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from collections.abc import Sequence

from protos.domain.resources import Tier
from protos.domain.trace import AttemptOutcome, AttemptPurpose
from tests.bench.report import quantile, write_report
from tests.support.azure_trace import Line
from tests.support.simulated_agent import Request, cost_nano_usd
from tests.support.simulated_wan import RIVALS, Run, Wan
from tests.support.wan_world import BUDGETS_MS, Arrival, arrivals, synthetic_lines, workload_lines

#: None: no request to measure it on.
Row = dict[str, float | None]
WARM_UP_MS = 60_000.0
#: How much longer the run goes whose second half is counted.
SETTLED_TIMES = 4
#: Name of a variant, and how it differs from the product as it is installed.
VARIANTS: dict[str, dict[str, object]] = {
    "edgeforge": {},
    "strict": {"strict": True},
    "price": {"edge_fill_ratio": 0.0},
}


def figures(run: Run, budget_ms: int, requests: Sequence[Request]) -> Row:
    """Return what ``requests`` got, measured against ``budget_ms``."""
    served = [each for each in requests if each.ttft_ms is not None]
    ordered = sorted(each.ttft_ms for each in served if each.ttft_ms is not None)
    tiers = Counter(each.log.serving_tier for each in served)
    tokens = sum(each.arrival.prompt_tokens + each.arrival.completion_tokens for each in served)
    paid = sum(cost_nano_usd(run.view, each, Tier(each.log.billing_tier)) for each in served)
    spent = sum(cost_nano_usd(run.view, each, Tier(each.log.serving_tier)) for each in served)
    shed = sum(bool(each.log.shed) for each in requests)
    missed = sum(each.log.predicted_miss for each in served)
    hedged = sum(each.has(AttemptPurpose.SECOND_COPY) for each in requests)
    covered = [verdict for each in requests if (verdict := _covered(each)) is not None]
    row = {
        "ttft_ms_p50": quantile(ordered, 0.5) if ordered else math.nan,
        "ttft_ms_p99": quantile(ordered, 0.99) if ordered else math.nan,
        "within_budget_ratio": _share(sum(ms <= budget_ms for ms in ordered), len(served)),
        "shed_ratio": _share(shed, len(requests)),
        "edge_ratio": _share(tiers[Tier.EDGE], len(served)),
        "regional_ratio": _share(tiers[Tier.REGIONAL], len(served)),
        "central_ratio": _share(tiers[Tier.CENTRAL], len(served)),
        "nano_usd_per_1k_tokens": _share(1_000 * paid, tokens),
        "served_nano_usd_per_1k_tokens": _share(1_000 * spent, tokens),
        "coverage_p99": _share(sum(covered), len(covered)),
        "hedge_ratio": _share(hedged, len(requests)),
        "predicted_miss_ratio": _share(missed, len(served)),
        "requests": float(len(requests)),
        # of the whole run: who had to wait, and who did so beside a free place in the same site
        "run_waited_ratio": _share(run.queued, run.sent),
        "run_herded_ratio": _share(run.herded, run.sent),
    }
    return {name: None if math.isnan(value) else round(value, 4) for name, value in row.items()}


def _covered(request: Request) -> bool | None:
    """Whether the first attempt took no longer than predicted; None: it was cut before that."""
    log, attempt = request.log, request.first_attempt
    if attempt is None:
        return None
    promised_ms = log.placements[log.attempts.index(attempt)].chosen.ttft_ms_p99
    if attempt.outcome is not AttemptOutcome.ANSWERED or log.first_token_mono_ms is None:
        return False if attempt.took_ms > promised_ms else None
    return log.first_token_mono_ms - attempt.began_mono_ms <= promised_ms


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def measure(run: Run, *, budgets_ms: Sequence[int], from_ms: float = WARM_UP_MS) -> dict[str, Row]:
    """Return the figures of each budget of one run, of the requests from ``from_ms`` on."""
    counted = [each for each in run.requests if each.arrival.at_ms >= from_ms]
    return {
        str(budget_ms): figures(
            run, budget_ms, [each for each in counted if each.arrival.budget_ms == budget_ms]
        )
        for budget_ms in budgets_ms
    }


def runs(lines: Sequence[Line], length_ms: float, seed: int) -> dict[str, dict[str, Row]]:
    """Run everything; return policy -> budget -> figures."""
    budgets_ms = tuple(BUDGETS_MS)
    mixed = arrivals(lines, budgets_ms, length_ms, seed)
    result: dict[str, dict[str, Row]] = {}
    for policy in RIVALS:
        run = Wan(mixed, length_ms, seed, policy=policy).run()
        result[policy] = measure(run, budgets_ms=budgets_ms)
        show(policy, result[policy], run)
    for name, how in VARIANTS.items():
        run = Wan(mixed, length_ms, seed, **how).run()  # type: ignore[arg-type]
        result[name] = measure(run, budgets_ms=budgets_ms)
        show(name, result[name], run)
        alone = result[f"{name}_alone"] = {}
        for budget_ms in budgets_ms:
            same: list[Arrival] = arrivals(lines, [budget_ms], length_ms, seed)
            run = Wan(same, length_ms, seed, **how).run()  # type: ignore[arg-type]
            alone |= measure(run, budgets_ms=[budget_ms])
            show(f"{name}_alone", {str(budget_ms): alone[str(budget_ms)]}, run)
    long_ms = SETTLED_TIMES * length_ms
    later = arrivals(lines, budgets_ms, long_ms, seed)
    run = Wan(later, long_ms, seed).run()
    result["settled"] = measure(run, budgets_ms=budgets_ms, from_ms=long_ms / 2)
    show("settled", result["settled"], run)
    return result


_COLUMNS = {
    "p50": ("ttft_ms_p50", "{:.0f}"),
    "p99": ("ttft_ms_p99", "{:.0f}"),
    "within": ("within_budget_ratio", "{:.1%}"),
    "shed": ("shed_ratio", "{:.1%}"),
    "edge": ("edge_ratio", "{:.0%}"),
    "regional": ("regional_ratio", "{:.0%}"),
    "central": ("central_ratio", "{:.0%}"),
    "nUSD/1k": ("nano_usd_per_1k_tokens", "{:.0f}"),
    "served": ("served_nano_usd_per_1k_tokens", "{:.0f}"),
    "cover": ("coverage_p99", "{:.2%}"),
    "hedges": ("hedge_ratio", "{:.1%}"),
    "misses": ("predicted_miss_ratio", "{:.1%}"),
}


def show(policy: str, rows: dict[str, Row], run: Run) -> None:
    for budget, row in rows.items():
        cells = "".join(f"{_cell(row[key], form):>9}" for key, form in _COLUMNS.values())
        print(f"{policy:18}{budget:>6}{cells}", flush=True)
    waited, herded = _share(run.queued, run.sent), _share(run.herded, run.sent)
    print(f"{'':24}waited for a place {waited:.1%}, beside a free one in that site {herded:.1%}")


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--synthetic", action="store_true")
    options = parser.parse_args()
    source, lines = workload_lines()
    if options.synthetic:
        source, lines = "synthetic", synthetic_lines(random.Random(23), 20_000)
    print(
        f"requests: {source}, {options.seconds:.0f} s, the first {WARM_UP_MS / 1_000:.0f} s unseen"
    )
    print(f"{'':18}{'ms':>6}" + "".join(f"{name:>9}" for name in _COLUMNS))
    result: dict[str, object] = dict(runs(lines, options.seconds * 1_000.0, options.seed))
    result["workload"] = source
    write_report("wan", result)


if __name__ == "__main__":
    main()
