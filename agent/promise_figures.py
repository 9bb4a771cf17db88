"""What the agent says of promises kept: first tokens with what was shed, and its predictions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from agent.core.coverage import BASES
from agent.core.promises import FIRST_TOKEN_BOUNDS_MS
from agent.metrics.registry import HistogramSample, Sample

if TYPE_CHECKING:
    from agent.core.coverage import Coverage
    from agent.core.promises import PromisesBySla
    from agent.gateway.records import RequestRecords
    from protos.domain.service import Service

_BOUNDS_S = tuple(bound_ms / 1_000.0 for bound_ms in FIRST_TOKEN_BOUNDS_MS)


def promise_samples(promises: PromisesBySla) -> Iterable[Sample | HistogramSample]:
    """Yield every tier's first tokens and refusals."""
    for sla, of in promises.items():
        labels = (("sla", sla),)
        yield HistogramSample(
            "edgeforge_gateway_first_token_seconds",
            "From a stream's first byte to its first token, last mile included.",
            _BOUNDS_S,
            of.buckets,
            of.first_token_ms_sum / 1_000.0,
            labels,
        )
        yield Sample(
            "edgeforge_gateway_first_tokens_late",
            "First tokens that came after their budget.",
            float(of.late),
            counter=True,
            labels=labels,
        )
        yield Sample(
            "edgeforge_gateway_admitted",
            "Requests of a known deployment that were not shed.",
            float(of.admitted),
            counter=True,
            labels=labels,
        )
        for reason, count in of.shed.items():
            yield Sample(
                "edgeforge_gateway_shed",
                "Requests refused that were right in themselves, by reason.",
                float(count),
                counter=True,
                labels=(*labels, ("reason", reason.value)),
            )


def coverage_samples(coverage: Coverage) -> Iterable[Sample]:
    """Yield how many first tokens were predicted, and came within it, by basis and place."""
    for basis, place, tally in coverage.items():
        labels = (("basis", basis), ("place", place.name.lower()))
        yield Sample(
            "edgeforge_predictions",
            "First tokens that a P99 was predicted of, by its basis and by who was ahead.",
            float(tally.seen),
            counter=True,
            labels=labels,
        )
        yield Sample(
            "edgeforge_predictions_kept",
            "Of them: those that came within it.",
            float(tally.kept),
            counter=True,
            labels=labels,
        )


def coverage_status(coverage: Coverage) -> dict[str, object]:
    """Return how often the predicted P99 was kept, for ``edgeforge-agent status``."""
    found: dict[str, object] = {}
    for basis in BASES:
        tally = coverage.by_basis(basis)
        found[basis] = {"seen": tally.seen, "kept": tally.kept, "kept_ratio": tally.ratio}
    return found


def promise_status(records: RequestRecords) -> dict[str, object]:
    """Return how the latest requests were served, for ``edgeforge-agent status``."""
    by_deployment = records.service_by_deployment()
    return {
        "all": _service_status(records.service()),
        "deployments": {name: _service_status(of) for name, of in by_deployment.items()},
    }


def _service_status(service: Service) -> dict[str, object]:
    """Return one service as JSON, its sentence included."""
    return asdict(service) | {"shed_ratio": service.shed_ratio, "said": str(service)}
