"""What the agent says of its accelerators: to its operator as JSON, to monitoring as numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from agent.core.accelerator_health import FaultKind, Severity
from agent.metrics.registry import Sample

if TYPE_CHECKING:
    from agent.gpu.watch import GpuWatch

#: Field of a Reading -> help text.
_FIGURES = {
    "utilisation_ratio": "Share of the time in which it computed.",
    "memory_used_bytes": "Its memory in use.",
    "memory_total_bytes": "All of its memory.",
    "temperature_celsius": "Its hottest sensor that the vendor tells.",
    "power_watts": "What it draws.",
    "ecc_corrected": "Memory errors corrected since its driver was loaded.",
    "ecc_uncorrected": "Memory errors not corrected since its driver was loaded.",
}


def accelerator_status(watch: GpuWatch) -> dict[str, object]:
    """Return readings and faults for ``edgeforge-agent status``."""
    return {
        "kind": watch.kind,
        "reader_pid": watch.reader_pid,
        "accelerators": [asdict(one) for one in watch.readings],
        "faults": [asdict(one) for one in watch.faults],
    }


def accelerator_samples(watch: GpuWatch) -> Iterable[Sample]:
    """Yield a number for each figure that each accelerator tells, and what is wrong."""
    for name, text in _FIGURES.items():
        for one in watch.readings:
            value = getattr(one, name)
            if value is not None:
                labels = _labels(one.id, one.index)
                yield Sample(f"edgeforge_accelerator_{name}", text, float(value), labels=labels)
    for one in watch.readings:
        labels = _labels(one.id, one.index)
        lost = float(one.lost)
        yield Sample("edgeforge_accelerator_lost", "1 is lost.", lost, labels=labels)
    for one in watch.readings:
        for reason in one.clock_reasons:
            yield Sample(
                "edgeforge_accelerator_slowed",
                "1 runs below its clock, by reason.",
                1.0,
                labels=(*_labels(one.id, one.index), ("reason", reason)),
            )
    for severity in Severity:
        for kind in FaultKind:
            count = sum(one.kind is kind and one.severity is severity for one in watch.faults)
            yield Sample(
                "edgeforge_accelerator_faults",
                "Faults that stand, a fatal one drains the node.",
                float(count),
                labels=(("severity", severity.value), ("kind", kind.value)),
            )
    yield Sample(
        "edgeforge_accelerator_readings", "Readings taken.", float(watch.reads), counter=True
    )
    yield Sample(
        "edgeforge_accelerator_reader_failures",
        "Readers that stalled, died or talked nonsense.",
        float(watch.failures),
        counter=True,
    )


def _labels(identity: str, index: int) -> tuple[tuple[str, str], ...]:
    return ("accelerator", identity), ("index", str(index))
