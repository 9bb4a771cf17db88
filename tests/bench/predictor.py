"""Is the P99 a P99, and how far above the outcome does it lie? Traces replayed, beside rivals.

    python -m tests.bench.predictor [--trace FILE] [--requests N] [--seed N]
    python -m tests.bench.predictor --synthetic [NAME ...] [--seed N]

Engines of three speeds with continuous batching get the trace with bursts in it, or traffic that
nobody recorded; each drifts by a quarter, then slows down at once, then is as before. Slow engines
get a part of the requests, several times over. Writes .bench/predictor.json.

``sharpness`` is the median of the P99 over that of an oracle, which knows the engine's law but not
its noise and sees what the agent sees; ``sharpness_inside`` over that of one which sees every
prompt and answer inside the engine (``tests/support/predictor_oracle.py``). Where an oracle has few
outcomes about the same law its P99 is coarse, and the ratio may lie under 1.
``changes_per_1000``: changes of speed that were detected, per 1,000 outcomes.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from protos.domain.regimes import Place
from tests.support.azure_trace import read_trace, trace_path, with_bursts
from tests.support.predictor_oracle import p99s_in_hindsight
from tests.support.predictor_replay import CASES, STEP_AT, STEP_BACK_AT, Replay, Sent, stepped
from tests.support.predictor_rivals import RIVALS
from tests.support.synthetic_traces import SCENARIOS

#: Outcomes of one stretch when recovery is looked for.
STRETCH = 100
#: What a P99 is to hold for, and the outcomes from which a regime is held to it; smaller ones are
#: when their interval touches it.
LEAST_COVERAGE, MOST_COVERAGE, ENOUGH_OUTCOMES = 0.985, 0.997, 5_000

#: How far above an oracle's P99 ours may lie, where there are so many outcomes.
MOST_SHARPNESS, SHARP_OUTCOMES = 1.5, 1_000

Row = dict[str, object]
Rows = dict[str, Row]


def interval(misses: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a coverage. Source: Wilson, 1927."""
    z, share = 1.96, 1.0 - misses / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count)
    half *= math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - half, middle + half


def figures(sent: Sequence[Sent], who: str) -> Row:
    """Return how true and how sharp the promises of ``who`` were."""
    count, misses = len(sent), sum(each.missed(who) for each in sent)
    took_ms = [each.took_ms for each in sent]
    coverage, (low, high) = 1.0 - misses / count, interval(misses, count)
    laws = {
        name: p99s_in_hindsight([getattr(each, law) for each in sent], took_ms)
        for name, law in (("sharpness", "law_outside_ms"), ("sharpness_inside", "law_inside_ms"))
    }
    if count >= ENOUGH_OUTCOMES:
        low_end = high_end = coverage
    else:
        low_end, high_end = low, high
    error_ms = sum(abs(each.guesses[who].ttft_ms_p50 - each.took_ms) for each in sent)
    return {
        "outcomes": count,
        "coverage_p99": round(coverage, 4),
        "coverage_low": round(low, 4),
        "coverage_high": round(high, 4),
        "calibrated": high_end >= LEAST_COVERAGE and low_end <= MOST_COVERAGE,
        "excess_ms_p50": round(median(e.guesses[who].ttft_ms_p99 - e.took_ms for e in sent), 1),
        **{
            name: round(
                median(e.guesses[who].ttft_ms_p99 / p99 for e, p99 in zip(sent, p99s, strict=True)),
                2,
            )
            for name, p99s in laws.items()
        },
        "mae_ms": round(error_ms / count, 1),
        "ttft_ms_p50": round(median(each.took_ms for each in sent), 1),
    }


def recovery_s(
    sent: Sequence[Sent], who: str, step_ms: float, until_ms: float = math.inf
) -> float | None:
    """Return how long after ``step_ms`` the promises are as good as before it.

    The first moment from which a stretch of outcomes is covered to 97 %, with relative excess and
    error of the median at most half again those before, of the same regime: a queue that the step
    makes is no fault of the prediction. None: not until ``until_ms``, or nothing to compare with.
    """
    before = [each for each in sent if each.at_ms < step_ms][STRETCH:]
    after = [each for each in sent if step_ms <= each.at_ms < until_ms]
    if not before:
        return None
    usual: dict[Place, tuple[float, float]] = {}
    for place in Place:
        same = [each for each in before if each.load.place is place] or before
        usual[place] = (
            max(0.1, median(each.excess(who) for each in same)),
            max(0.05, median(each.error(who) for each in same)),
        )
    for start in range(len(after) - STRETCH):
        stretch = after[start : start + STRETCH]
        if (
            sum(each.missed(who) for each in stretch) <= 0.03 * STRETCH
            and median(each.excess(who) / usual[each.load.place][0] for each in stretch) <= 1.5
            and median(each.error(who) / usual[each.load.place][1] for each in stretch) <= 1.5
        ):
            return round((after[start].at_ms - step_ms) / 1_000.0, 1)
    return None


def measure(replay: Replay, name: str) -> dict[str, Rows]:
    """Return the rows of each regime and of all of them."""
    sent = replay.run()
    parts = {place.name.lower(): [e for e in sent if e.load.place is place] for place in Place}
    parts["all"] = sent
    result = {
        f"{name}/{part}": {who: figures(some, who) for who in ("edgeforge", *RIVALS)}
        for part, some in parts.items()
        if some
    }
    up_ms, down_ms = replay.length_ms * STEP_AT, replay.length_ms * STEP_BACK_AT
    rows = result[f"{name}/all"]
    for who, row in rows.items():
        row["recovery_s"] = recovery_s(sent, who, up_ms, down_ms)
        row["recovery_down_s"] = recovery_s(sent, who, down_ms)
    rows["edgeforge"]["changes"] = replay.target.changes
    rows["edgeforge"]["changes_per_1000"] = round(1_000 * replay.target.changes / len(sent), 2)
    return result


def recorded(options: argparse.Namespace) -> Iterator[dict[str, Rows]]:
    lines = read_trace(options.trace or trace_path(), options.requests)
    lines = with_bursts(lines, every_ms=600_000.0, lasting_ms=20_000.0, factor=4.0)
    for case in CASES:
        yield measure(Replay(case, lines, options.seed, stepped(1.7)), case.name)


def synthetic(options: argparse.Namespace) -> Iterator[dict[str, Rows]]:
    for name in options.synthetic or SCENARIOS:
        scenario = SCENARIOS[name]
        lines = scenario.lines(options.seed)
        for case in CASES:
            replay = Replay(case, lines, options.seed, scenario.slowness, scenario.caching)
            yield measure(replay, f"{name}/{case.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, default=None)
    parser.add_argument("--synthetic", nargs="*", choices=SCENARIOS, metavar="NAME")
    parser.add_argument("--requests", type=int, default=None)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    result: dict[str, Rows] = {}
    for rows in recorded(options) if options.synthetic is None else synthetic(options):
        result.update(rows)
        for regime, row in rows.items():
            show(regime, row)
    ours = [row["edgeforge"] for name, row in result.items() if not name.endswith("/all")]
    outside = sum(not row["calibrated"] for row in ours)
    print(f"\n{len(ours)} regimes, {outside} outside {LEAST_COVERAGE}-{MOST_COVERAGE}")
    held = [row["sharpness"] for row in ours if int(str(row["outcomes"])) >= SHARP_OUTCOMES]
    blunt = sum(float(str(sharpness)) > MOST_SHARPNESS for sharpness in held)
    print(
        f"{len(held)} regimes of {SHARP_OUTCOMES} outcomes, {blunt} above {MOST_SHARPNESS} oracles"
    )
    path = Path(".bench/predictor.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1))


def show(regime: str, rows: Rows) -> None:
    print(f"\n{regime}: {rows['edgeforge']['outcomes']} outcomes")
    for who, row in rows.items():
        words = (f"{name} {value}" for name, value in row.items() if name != "outcomes")
        print(f"  {who:17}", "  ".join(words))


if __name__ == "__main__":
    main()
