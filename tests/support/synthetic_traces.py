"""Synthetic traces, one for each kind of traffic, so that no single one is tuned for.

Rates suit the engines of ``tests.support.predictor_replay``: queues form at times.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.azure_trace import Line
from tests.support.predictor_replay import NOTHING_CACHED, Caching, Slowness, alternating, stepped

#: Requests of each trace.
REQUESTS = 12_000
#: The longest prompt that any engine takes.
MOST_PROMPT_TOKENS = 60_000

Draw = Callable[[random.Random], float]
#: Requests a second, at so many milliseconds.
Rate = Callable[[float], float]


@dataclass(frozen=True)
class Scenario:
    """Traffic, how the engine's speed changes, and what it has cached."""

    rate_per_s: Rate
    prompt: Draw
    completion: Draw
    slowness: Slowness
    caching: Caching = NOTHING_CACHED
    requests: int = REQUESTS

    def lines(self, seed: int) -> list[Line]:
        """Return the requests: a Poisson process whose rate may change."""
        chance, at_ms, lines = random.Random(seed), 0.0, []
        for _ in range(self.requests):
            at_ms += chance.expovariate(self.rate_per_s(at_ms)) * 1_000.0
            prompt = min(MOST_PROMPT_TOKENS, max(1, round(self.prompt(chance))))
            lines.append(Line(at_ms, prompt, max(1, round(self.completion(chance)))))
        return lines


def steadily(per_s: float) -> Rate:
    return lambda _: per_s


def daily(per_s: float, swing: float, period_ms: float) -> Rate:
    """Return a rate that rises and falls by ``swing`` of itself."""
    return lambda at_ms: per_s * (1.0 + swing * math.sin(2 * math.pi * at_ms / period_ms))


def in_bursts(per_s: float, factor: float, every_ms: float, lasting_ms: float) -> Rate:
    """Return a rate that is ``factor`` as high for ``lasting_ms`` out of ``every_ms``."""
    return lambda at_ms: per_s * (factor if at_ms % every_ms < lasting_ms else 1.0)


def in_crowds(per_s: float, factor: float, every_ms: float, lasting_ms: float) -> Rate:
    """Return a rate that is quiet first, and ``factor`` as high at the end of ``every_ms``."""
    return lambda at_ms: per_s * (factor if at_ms % every_ms > every_ms - lasting_ms else 1.0)


def lognormal(middle: float, spread: float) -> Draw:
    return lambda chance: middle * chance.lognormvariate(0.0, spread)


def either(low: float, high: float, share_high: float) -> Draw:
    """Return one of two sizes, each a tenth more or less."""
    return lambda chance: (high if chance.random() < share_high else low) * chance.uniform(0.9, 1.1)


def pareto(least: float, exponent: float) -> Draw:
    return lambda chance: least * chance.paretovariate(exponent)


#: Prompts with a median of 860 tokens and a P90 of 3,400.
_HEAVY_PROMPT = lognormal(860.0, 1.0725)
#: What an agent believes of prefixes is often wrong, and now and then a cache is lost.
_BADLY_KNOWN = Caching(0.8, error=0.35, dropped=0.08, least=0.0)
_PROMPT, _COMPLETION = lognormal(700.0, 1.0), lognormal(160.0, 0.6)
_RATE, _STEP, _NO_CHANGE = steadily(4.5), stepped(1.7), alternating(1.0, math.inf)

SCENARIOS: dict[str, Scenario] = {
    "poisson": Scenario(_RATE, _PROMPT, _COMPLETION, _STEP),
    "bimodal": Scenario(_RATE, either(100.0, 6_000.0, 0.2), _COMPLETION, _STEP),
    "daily": Scenario(daily(4.5, 0.8, 900_000.0), _PROMPT, _COMPLETION, _STEP),
    "bursts": Scenario(in_bursts(3.0, 5.0, 120_000.0, 8_000.0), _PROMPT, _COMPLETION, _STEP),
    "long_only": Scenario(steadily(1.2), lognormal(8_000.0, 0.2), _COMPLETION, _STEP),
    "tiny": Scenario(steadily(8.0), lognormal(12.0, 0.5), lognormal(100.0, 0.6), _STEP),
    "heavy_tail": Scenario(steadily(3.0), pareto(150.0, 1.1), pareto(60.0, 1.6), _STEP),
    "slower_by_3": Scenario(steadily(2.5), _PROMPT, _COMPLETION, stepped(3.0)),
    "faster_by_3": Scenario(_RATE, _PROMPT, _COMPLETION, stepped(1.0 / 3.0)),
    "alternating": Scenario(_RATE, _PROMPT, _COMPLETION, alternating(1.5, 300_000.0)),
    "overloaded": Scenario(daily(7.0, 0.6, 900_000.0), _PROMPT, _COMPLETION, _STEP),
    "cached": Scenario(_RATE, _PROMPT, _COMPLETION, _STEP, Caching(0.7, 0.15, 0.03)),
    "crowds": Scenario(
        in_crowds(1.0, 16.0, 600_000.0, 60_000.0), _HEAVY_PROMPT, _COMPLETION, _STEP
    ),
    "saturated": Scenario(
        in_crowds(2.0, 7.0, 600_000.0, 150_000.0), _HEAVY_PROMPT, _COMPLETION, _STEP
    ),
    "crowds_steady": Scenario(
        in_crowds(1.0, 16.0, 600_000.0, 60_000.0), _HEAVY_PROMPT, _COMPLETION, _NO_CHANGE
    ),
    "prefixes": Scenario(steadily(4.5), _HEAVY_PROMPT, _COMPLETION, _STEP, _BADLY_KNOWN),
    "crowds_prefixes": Scenario(
        in_crowds(1.0, 24.0, 600_000.0, 60_000.0), _HEAVY_PROMPT, _COMPLETION, _STEP, _BADLY_KNOWN
    ),
    "turns": Scenario(
        in_crowds(2.0, 8.0, 600_000.0, 30_000.0),
        _HEAVY_PROMPT,
        _COMPLETION,
        _NO_CHANGE,
        Caching(0.9, error=0.2, least=0.0, alike_for_ms=60_000.0),
    ),
    "rare_crowds": Scenario(
        in_crowds(2.0, 8.0, 3_600_000.0, 60_000.0),
        _HEAVY_PROMPT,
        _COMPLETION,
        _NO_CHANGE,
        Caching(0.95, error=0.3, least=0.0, alike_for_ms=60_000.0),
    ),
    "few": Scenario(steadily(0.2), _PROMPT, _COMPLETION, _STEP, requests=300),
}
