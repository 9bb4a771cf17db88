"""A linear estimate that learns online, is never negative, and starts from a prior.

Exponentially forgotten normal equations, anchored to a prior, solved by coordinate descent with
non-negative coefficients: more tokens or a longer queue never make a first token come sooner. The
anchor does not fade, so that a feature that is absent for long keeps a plausible coefficient.
"""

from __future__ import annotations

from collections.abc import Sequence

#: The anchor weighs as much as so many typical observations.
ANCHOR_OBSERVATIONS = 4.0

#: A prior is moved by at most this factor, either way.
MOST_WALKED = 8.0

#: Numerically nothing: a coordinate without evidence or anchor stays where it is.
_TINY = 1e-12


class Regression:
    """Coefficients of one regime. Mutable; its state never grows.

    ``typical`` features say how heavy the anchor is on each coefficient. An outcome
    ``memory_observations`` ago counts for 1/e of one now.
    """

    __slots__ = (
        "_anchors",
        "_evidence",
        "_keep",
        "_levels",
        "_moments",
        "_start",
        "_targets",
        "_walked",
        "coefficients",
        "prior",
    )

    def __init__(
        self, prior: Sequence[float], typical: Sequence[float], memory_observations: float
    ) -> None:
        size = len(prior)
        self._keep = 1.0 - 1.0 / memory_observations
        self._start = tuple(prior)
        #: The product of all factors, within bounds.
        self._walked = 1.0
        self.prior = list(prior)
        self.coefficients = list(prior)
        self._anchors = [ANCHOR_OBSERVATIONS * x * x for x in typical]
        self._levels = self._evidence = 0.0
        self._moments = [[0.0] * size for _ in range(size)]
        self._targets = [0.0] * size

    def estimate(self, features: Sequence[float]) -> float:
        """Return the estimate at ``features``."""
        return _dot(self.coefficients, features)

    def learn(self, features: Sequence[float], outcome: float, level: float) -> None:
        """Take in one outcome; ``level`` is its expected size, since errors grow with it."""
        weight = 1.0 / (level * level)
        targets, coefficients, prior = self._targets, self.coefficients, self.prior
        keep = self._keep
        self._evidence = self._evidence * keep + 1.0
        self._levels = self._levels * keep + level
        usual = self._evidence / self._levels
        anchor_weight = usual * usual
        for row, x in enumerate(features):
            share = weight * x
            moments = self._moments[row]
            pull = 0.0
            for column, other in enumerate(features):
                moments[column] = moment = moments[column] * keep + share * other
                pull += moment * coefficients[column]
            targets[row] = target = targets[row] * keep + share * outcome
            anchor = self._anchors[row] * anchor_weight
            curvature = moments[row] + anchor
            if curvature > _TINY:
                slope = target + anchor * prior[row] - pull - anchor * coefficients[row]
                coefficients[row] = max(0.0, coefficients[row] + slope / curvature)

    def expect(self, least: Sequence[float]) -> None:
        """Start again from the larger of the first prior and ``least``, each by itself."""
        self.prior = [max(each, other) for each, other in zip(self._start, least, strict=True)]
        self.coefficients = list(self.prior)

    def rescale(self, factor: float, keep: float) -> None:
        """Everything takes ``factor`` times as long now; ``keep`` a share of the evidence.

        What was believed before any outcome is moved only so far: many factors, each a little
        wrong, would take it anywhere.
        """
        self.coefficients = [each * factor for each in self.coefficients]
        walked = min(MOST_WALKED, max(1.0 / MOST_WALKED, self._walked * factor))
        self.prior = [each * (walked / self._walked) for each in self.prior]
        self._walked = walked
        shrunk = keep / (factor * factor)
        self._moments = [[each * shrunk for each in row] for row in self._moments]
        self._targets = [each * shrunk * factor for each in self._targets]
        self._levels *= keep * factor
        self._evidence *= keep


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))
