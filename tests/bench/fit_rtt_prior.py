"""Fit the constants of ``protos/domain/geo.py``: round trip against great-circle distance.

    python -m tests.bench.fit_rtt_prior RTT.csv COORDINATES.json

RTT.csv: Microsoft, "Azure network round-trip latency statistics" (rows source, columns
destination, median ms). COORDINATES.json: {region: {"lat", "lon", "displayName"}}.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

from protos.domain.geo import great_circle_km


class Pair(NamedTuple):
    distance_km: float
    rtt_ms: float


def read_pairs(rtt_csv: Path, coordinates_json: Path) -> list[Pair]:
    """Return every measured pair of different regions."""
    regions = json.loads(coordinates_json.read_text())
    places = {place["displayName"]: (place["lat"], place["lon"]) for place in regions.values()}
    with rtt_csv.open(newline="") as lines:
        return [
            Pair(great_circle_km(*places[row["Source"]], *places[name]), float(value))
            for row in csv.DictReader(lines)
            for name, value in row.items()
            if name != "Source" and name != row["Source"] and value
        ]


def fit(pairs: list[Pair]) -> tuple[float, float, float, float]:
    """Return (loss, base_ms, near slope, far slope), kink at 4,000 km, by least |log ratio|."""
    best = (math.inf, 0.0, 0.0, 0.0)
    for base in (x * 0.5 for x in range(2, 13)):
        for near in (x * 0.0005 for x in range(24, 60)):
            for far in (x * 0.0005 for x in range(16, 40)):
                loss = sum(
                    abs(math.log(pair.rtt_ms / estimate(pair.distance_km, base, near, far)))
                    for pair in pairs
                )
                best = min(best, (loss / len(pairs), base, near, far))
    return best


def estimate(distance_km: float, base: float, near: float, far: float) -> float:
    return base + near * min(distance_km, 4_000.0) + far * max(0.0, distance_km - 4_000.0)


def main() -> None:
    pairs = read_pairs(Path(sys.argv[1]), Path(sys.argv[2]))
    loss, base, near, far = fit(pairs)
    ratios = sorted(pair.rtt_ms / estimate(pair.distance_km, base, near, far) for pair in pairs)
    print(f"{len(pairs)} pairs, mean |log ratio| {loss:.3f}")
    print(f"base {base} ms, near {near:.4f} ms/km, far {far:.4f} ms/km")
    for quantile in (0.05, 0.50, 0.95, 0.99):
        print(
            f"measured / estimate, quantile {quantile}: {ratios[int(quantile * len(ratios))]:.2f}"
        )


if __name__ == "__main__":
    main()
