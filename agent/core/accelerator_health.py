"""Derives faults of the accelerators, and of their reader, from readings. Pure.

A *fatal* fault drains the node. A hardware fault (lost, an XID that requires a reset, an
uncorrectable memory error) stays until it is gone *and* an operator has resumed the node: a driver
reports it once, and the absence of further reports does not prove a repair. A reader fault clears
by itself, because it does not concern the hardware; it is fatal only when readings have stopped or
the reader stalls or dies, and a warning when the vendor's library is not there or never answered.
Laws: healthy readings raise no fault; a fatal hardware fault is never cleared without
``OperatorResumed``; a resume never clears a fault that is still present; a throttle shorter than
``warn_after_ms`` is never reported; the number of faults is bounded.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.core.accelerators import POWER_REASONS, THERMAL_REASONS, AcceleratorEvent, Reading
from agent.core.samples import Sample, Samples

#: XIDs after which NVIDIA requires a reset of the GPU or of its host, or a repair.
#: Source: https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html (resolution
#: buckets RESET_GPU, RESTART_BM, CONTACT_SUPPORT and the workflows for 48 and NVLink). 94 requires
#: only a restart of the application, but its cause is an uncorrectable memory error, so it drains
#: like 95. 63 (a row was remapped; takes effect at the next reset) is a warning.
FATAL_XIDS: Mapping[int, str] = {
    46: "GPU stopped processing",
    48: "double-bit ECC error",
    62: "internal micro-controller halted",
    64: "row could not be remapped",
    74: "NVLink error",
    79: "GPU has fallen off the bus",
    94: "contained memory error",
    95: "uncontained memory error",
    110: "security fault",
    119: "GSP does not answer",
    120: "GSP error",
    140: "memory error that was not recovered",
    143: "GPU could not be initialised",
}
#: XIDs that an application causes; the engine's supervisor handles them.
#: Source: the same catalogue, bucket RESTART_APP or IGNORE.
APPLICATION_XIDS = frozenset({8, 11, 13, 31, 32, 43, 45, 68, 69, 109})
#: The driver is about to reset the GPU; its memory is lost. Source: amdsmi.h,
#: AMDSMI_EVT_NOTIF_GPU_PRE_RESET.
FATAL_RAS: Mapping[int, str] = {3: "the driver resets the GPU"}

MAX_FAULTS = 128


class Severity(enum.StrEnum):
    """A fatal fault drains the node; a warning is only shown."""

    WARNING = "warning"
    FATAL = "fatal"


class FaultKind(enum.StrEnum):
    """What is wrong."""

    LOST = "lost"
    XID = "xid"
    RAS = "ras"
    ECC_UNCORRECTED = "ecc_uncorrected"
    READER = "reader"
    THERMAL_THROTTLE = "thermal_throttle"
    POWER_THROTTLE = "power_throttle"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``accelerator`` is empty for a fault of the reader.

    ``active``: seen within ``clear_after_ms``; otherwise it is only kept for the operator.
    """

    accelerator: str
    kind: FaultKind
    severity: Severity
    code: int
    detail: str
    since_mono_ms: float
    active: bool = True

    @property
    def latched(self) -> bool:
        """Whether it stays until an operator resumes the node."""
        return self.severity is Severity.FATAL and self.kind is not FaultKind.READER


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """How long a condition must last to be reported, and be absent to be cleared."""

    #: A throttle is reported after this time.
    warn_after_ms: float = 10_000.0
    #: A fault not seen for this time is gone.
    clear_after_ms: float = 30_000.0
    #: Without a reading for this time, the reader's fault is fatal.
    blind_after_ms: float = 5_000.0
    #: Whether a failed reader drains the node; false on hosts without accelerators.
    blind_is_fatal: bool = True


@dataclass(frozen=True, slots=True)
class Sampled:
    """The reader answered."""

    readings: Sequence[Reading]


@dataclass(frozen=True, slots=True)
class ReaderFailed:
    """The reader stalled, exited, or sent invalid data."""

    reason: str


@dataclass(frozen=True, slots=True)
class ReaderUnusable:
    """The reader runs and says that it cannot read: no library, or a driver that refuses it.

    ``missing``: the library is not installed, which says nothing about the hardware.
    """

    reason: str
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class OperatorResumed:
    """An operator resumed the node: faults that are gone may be cleared."""


Event = Sampled | ReaderFailed | ReaderUnusable | Ticked | OperatorResumed
_Key = tuple[str, FaultKind, int]


@dataclass(slots=True)
class _Known:
    """A reported fault; ``seen_mono_ms`` is when its cause was last seen."""

    fault: Fault
    seen_mono_ms: float


class AcceleratorHealth:
    """The faults of one node. Times must not decrease."""

    def __init__(self, policy: HealthPolicy, now_mono_ms: float) -> None:
        self._policy = policy
        self._known: dict[_Key, _Known] = {}
        #: Throttles not reported yet -> since when.
        self._pending_mono_ms: dict[_Key, float] = {}
        self._ecc_uncorrected: dict[str, int] = {}
        #: Accelerators whose memory errors are from before this agent started.
        self._old_errors: set[str] = set()
        self._indexes: dict[str, int] = {}
        self._answered_mono_ms = now_mono_ms
        self._failure = ""
        #: Whether the present failure of the reader may become fatal.
        self._failure_counts = False
        self._has_answered = False

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults, the fatal ones first."""
        faults = (known.fault for known in self._known.values())
        return tuple(sorted(faults, key=_order))

    @property
    def drain_reason(self) -> str:
        """Why the node must not serve; empty when it may."""
        fatal = [one for one in self.faults if one.severity is Severity.FATAL]
        if not fatal:
            return ""
        more = f" and {len(fatal) - 1} more" if len(fatal) > 1 else ""
        return fatal[0].detail + more

    def handle(self, event: Event, now_mono_ms: float) -> bool:
        """Apply ``event``; return whether any fault came, went or changed."""
        before = self.faults
        match event:
            case Sampled(readings):
                self._failure = ""
                self._has_answered = True
                self._answered_mono_ms = now_mono_ms
                self._check_readings(readings, now_mono_ms)
            case ReaderFailed(reason):
                self._failure, self._failure_counts = reason, True
            case ReaderUnusable(reason, missing):
                self._failure = reason
                self._failure_counts = self._has_answered and not missing
            case OperatorResumed():
                self._known = {key: one for key, one in self._known.items() if one.fault.active}
            case Ticked():
                pass
        self._judge_reader(now_mono_ms)
        self._forget(now_mono_ms)
        return self.faults != before

    def _check_readings(self, readings: Sequence[Reading], now_mono_ms: float) -> None:
        missing = dict(self._indexes)
        for one in readings:
            missing.pop(one.id, None)
            if one.id in self._indexes or len(self._indexes) < MAX_FAULTS:
                self._indexes[one.id] = one.index
            if one.lost:
                self._lost(one.id, now_mono_ms)
            self._check_ecc(one, now_mono_ms)
            self._check_clocks(one, now_mono_ms)
            for event in one.events:
                self._check_event(one, event, now_mono_ms)
        for accelerator in missing:
            self._lost(accelerator, now_mono_ms)

    def _lost(self, accelerator: str, now_mono_ms: float) -> None:
        name = self._name(accelerator)
        self._record(accelerator, FaultKind.LOST, Severity.FATAL, 0, f"{name} is lost", now_mono_ms)

    def _check_ecc(self, one: Reading, now_mono_ms: float) -> None:
        count = one.ecc_uncorrected
        if count is None:
            return
        before = self._ecc_uncorrected.get(one.id)
        if before is not None or len(self._ecc_uncorrected) < MAX_FAULTS:
            self._ecc_uncorrected[one.id] = count
        detail = f"{self._name(one.id)} has {count} uncorrectable memory errors"
        if before is not None and count > before:
            self._record(one.id, FaultKind.ECC_UNCORRECTED, Severity.FATAL, 0, detail, now_mono_ms)
            self._old_errors.discard(one.id)
        elif count and (before is None or one.id in self._old_errors):
            # Errors from before this agent started: a warning only, which does not drain.
            self._old_errors.add(one.id)
            detail += " from before this agent"
            self._record(
                one.id, FaultKind.ECC_UNCORRECTED, Severity.WARNING, 0, detail, now_mono_ms
            )

    def _check_clocks(self, one: Reading, now_mono_ms: float) -> None:
        for kind, words in (
            (FaultKind.THERMAL_THROTTLE, THERMAL_REASONS),
            (FaultKind.POWER_THROTTLE, POWER_REASONS),
        ):
            key = (one.id, kind, 0)
            reasons = sorted(words.intersection(one.clock_reasons))
            if not reasons:
                self._pending_mono_ms.pop(key, None)
                continue
            if key not in self._pending_mono_ms and len(self._pending_mono_ms) >= MAX_FAULTS:
                continue
            since = self._pending_mono_ms.setdefault(key, now_mono_ms)
            if key in self._known or now_mono_ms - since >= self._policy.warn_after_ms:
                detail = f"{self._name(one.id)} runs slower: {', '.join(reasons)}"
                self._record(one.id, kind, Severity.WARNING, 0, detail, now_mono_ms)

    def _check_event(self, one: Reading, event: AcceleratorEvent, now_mono_ms: float) -> None:
        name = self._name(one.id)
        if event.kind == "xid":
            if event.code in APPLICATION_XIDS:
                return
            meaning = FATAL_XIDS.get(event.code)
            kind, text = FaultKind.XID, f"{name}: XID {event.code}"
        else:
            meaning = FATAL_RAS.get(event.code)
            kind, text = FaultKind.RAS, f"{name}: RAS event {event.code}"
        severity = Severity.WARNING if meaning is None else Severity.FATAL
        meaning = meaning or event.detail
        detail = f"{text} ({meaning})" if meaning else text
        self._record(one.id, kind, severity, event.code, detail, now_mono_ms)

    def _judge_reader(self, now_mono_ms: float) -> None:
        if not self._failure:
            return
        blind_ms = now_mono_ms - self._answered_mono_ms
        fatal = (
            self._policy.blind_is_fatal
            and self._failure_counts
            and blind_ms >= self._policy.blind_after_ms
        )
        known = self._known.get(("", FaultKind.READER, 0))
        # A fatal reader fault stays fatal until it clears, so that the node does not flap.
        if known is not None and known.fault.severity is Severity.FATAL:
            fatal = True
        severity = Severity.FATAL if fatal else Severity.WARNING
        detail = f"accelerators cannot be read: {self._failure}"
        self._record("", FaultKind.READER, severity, 0, detail, now_mono_ms)

    def _record(
        self,
        accelerator: str,
        kind: FaultKind,
        severity: Severity,
        code: int,
        detail: str,
        now_mono_ms: float,
    ) -> None:
        key = (accelerator, kind, code)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= MAX_FAULTS and not self._make_room(severity):
                return
            fault = Fault(accelerator, kind, severity, code, detail, now_mono_ms)
            self._known[key] = _Known(fault, now_mono_ms)
            return
        known.seen_mono_ms = now_mono_ms
        if known.fault.severity is Severity.FATAL:
            severity = Severity.FATAL  # never lowered: a fault is only cleared as a whole
        known.fault = replace(known.fault, severity=severity, detail=detail, active=True)

    def _make_room(self, severity: Severity) -> bool:
        """Drop a warning to make room for a fatal fault; return whether there is room."""
        warnings = (
            key for key, one in self._known.items() if one.fault.severity is Severity.WARNING
        )
        victim = next(warnings, None) if severity is Severity.FATAL else None
        if victim is not None:
            del self._known[victim]
        return victim is not None

    def _forget(self, now_mono_ms: float) -> None:
        for key, known in list(self._known.items()):
            if now_mono_ms - known.seen_mono_ms < self._policy.clear_after_ms:
                continue
            if known.fault.latched:
                known.fault = replace(known.fault, active=False)
            else:
                del self._known[key]

    def _name(self, accelerator: str) -> str:
        return f"GPU {self._indexes.get(accelerator, 0)} ({accelerator})"


def active_fatal(faults: Iterable[Fault]) -> list[Fault]:
    """Return the faults that prevent a resume."""
    return [one for one in faults if one.severity is Severity.FATAL and one.active]


def fault_samples(faults: Sequence[Fault]) -> Samples:
    """Yield how many faults there are of each severity and kind, zeros included."""
    for severity in Severity:
        for kind in FaultKind:
            count = sum(one.kind is kind and one.severity is severity for one in faults)
            yield Sample(
                "edgeforge_accelerator_faults",
                "Faults that are present; a fatal one drains the node.",
                float(count),
                labels=(("severity", severity.value), ("kind", kind.value)),
            )


def _order(fault: Fault) -> tuple[bool, str, str, int]:
    return fault.severity is not Severity.FATAL, fault.accelerator, fault.kind, fault.code
