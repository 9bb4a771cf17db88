"""Readings of one accelerator, as values and as the JSON that a reader's child process sends.

The child runs a vendor's code, so its output is untrusted until ``readings_from_json``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from agent.core.samples import Sample, Samples

#: Fields of Reading that are metrics, with their help texts.
_HELP = {
    "utilisation_ratio": "Share of the time in which the accelerator computed.",
    "memory_used_bytes": "Accelerator memory in use.",
    "memory_total_bytes": "Accelerator memory in total.",
    "temperature_celsius": "Temperature of the hottest sensor that the vendor reports.",
    "power_watts": "Power drawn.",
    "ecc_corrected": "Memory errors corrected since the driver was loaded.",
    "ecc_uncorrected": "Memory errors not corrected since the driver was loaded.",
}
MAX_ACCELERATORS = 64
MAX_EVENTS = 64
MAX_REASONS = 16
MAX_TEXT_CHARS = 200
_MAX_COUNT = 2**63 - 1
_MAX_CODE = 2**31 - 1

#: Clock reasons, the same words for every vendor.
POWER_REASONS = frozenset({"power_cap", "power_brake"})
THERMAL_REASONS = frozenset({"thermal_software", "thermal_hardware", "thermal_memory"})


@dataclass(frozen=True, slots=True)
class AcceleratorEvent:
    """An event that the driver reports once: an NVIDIA XID, or an AMD RAS event."""

    kind: str  # "xid" or "ras"
    code: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """One accelerator at one moment. None: this accelerator does not report the value.

    ``utilisation_ratio`` is 0 to 1. ECC counts are since the driver was loaded. ``events`` are
    those since the previous reading.
    """

    id: str
    index: int
    name: str
    utilisation_ratio: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    clock_reasons: tuple[str, ...] = ()
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    lost: bool = False
    events: tuple[AcceleratorEvent, ...] = ()


def reading_samples(readings: Iterable[Reading]) -> Samples:
    """Yield a metric for each value of each accelerator."""
    for one in readings:
        labels = (("accelerator", one.id), ("index", str(one.index)))
        for name, text in _HELP.items():
            if (value := getattr(one, name)) is not None:
                yield Sample(f"edgeforge_accelerator_{name}", text, float(value), labels=labels)
        lost = float(one.lost)
        yield Sample(
            "edgeforge_accelerator_lost", "1 when the driver lost it.", lost, labels=labels
        )
        for reason in one.clock_reasons:
            yield Sample(
                "edgeforge_accelerator_slowed",
                "1 while it runs below its clock, by reason.",
                1.0,
                labels=(*labels, ("reason", reason)),
            )


def readings_to_json(readings: Iterable[Reading]) -> dict[str, object]:
    """Return the content of one line of a child's output."""
    return {
        "accelerators": [
            {
                "id": one.id,
                "index": one.index,
                "name": one.name,
                "utilisation_ratio": one.utilisation_ratio,
                "memory_used_bytes": one.memory_used_bytes,
                "memory_total_bytes": one.memory_total_bytes,
                "temperature_celsius": one.temperature_celsius,
                "power_watts": one.power_watts,
                "clock_reasons": list(one.clock_reasons),
                "ecc_corrected": one.ecc_corrected,
                "ecc_uncorrected": one.ecc_uncorrected,
                "lost": one.lost,
                "events": [
                    {"kind": event.kind, "code": event.code, "detail": event.detail}
                    for event in one.events
                ],
            }
            for one in readings
        ]
    }


def readings_from_json(answer: object) -> tuple[Reading, ...]:
    """Return the readings that a child sent. Raises: ValueError for any that are out of bounds."""
    if not isinstance(answer, dict):
        raise ValueError("the answer is no object")
    found = _items(answer.get("accelerators"), MAX_ACCELERATORS, "accelerators")
    readings = tuple(_reading(one) for one in found)
    if len({one.id for one in readings}) != len(readings):
        raise ValueError("two accelerators with one id")
    return readings


def plain_text(value: object, what: str) -> str:
    """Return untrusted text made safe for one line of a log. Raises: ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is no text")
    return "".join(char if char.isprintable() else "?" for char in value[:MAX_TEXT_CHARS])


def _reading(one: object) -> Reading:
    if not isinstance(one, dict):
        raise ValueError("an accelerator is no object")
    identity = plain_text(one.get("id"), "id")
    if not identity:
        raise ValueError("an accelerator without an id")
    index = _count(one.get("index"), "index")
    reasons = _items(one.get("clock_reasons"), MAX_REASONS, "clock_reasons")
    events = _items(one.get("events"), MAX_EVENTS, "events")
    lost = one.get("lost")
    if not isinstance(lost, bool):
        raise ValueError("lost is neither true nor false")
    return Reading(
        id=identity,
        index=0 if index is None else index,
        name=plain_text(one.get("name"), "name"),
        utilisation_ratio=_number(one.get("utilisation_ratio"), "utilisation_ratio", 0.0, 1.0),
        memory_used_bytes=_count(one.get("memory_used_bytes"), "memory_used_bytes"),
        memory_total_bytes=_count(one.get("memory_total_bytes"), "memory_total_bytes"),
        temperature_celsius=_number(
            one.get("temperature_celsius"), "temperature_celsius", -273.15, 1_000.0
        ),
        power_watts=_number(one.get("power_watts"), "power_watts", 0.0, 1e6),
        clock_reasons=tuple(plain_text(reason, "a clock reason") for reason in reasons),
        ecc_corrected=_count(one.get("ecc_corrected"), "ecc_corrected"),
        ecc_uncorrected=_count(one.get("ecc_uncorrected"), "ecc_uncorrected"),
        lost=lost,
        events=tuple(_event(event) for event in events),
    )


def _event(one: object) -> AcceleratorEvent:
    if not isinstance(one, dict) or one.get("kind") not in ("xid", "ras"):
        raise ValueError("an event is neither xid nor ras")
    code = _count(one.get("code"), "code", _MAX_CODE)
    if code is None:
        raise ValueError("an event without a code")
    return AcceleratorEvent(str(one["kind"]), code, plain_text(one.get("detail"), "detail"))


def _items(value: object, most: int, what: str) -> list[object]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"{what} is no list of at most {most}")
    return value


def _count(value: object, what: str, most: int = _MAX_COUNT) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{what} is no count")
    return value


def _number(value: object, what: str, low: float, high: float) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{what} is no number")
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{what} is not in {low}..{high}")
    return float(value)
