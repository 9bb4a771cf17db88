"""Reads NVIDIA GPUs through ``nvidia-ml-py``, the Python binding of NVML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from agent.core.accelerators import MAX_ACCELERATORS, MAX_EVENTS, AcceleratorEvent, Reading
from agent.gpu.reader import LibraryMissing, ReaderUnavailable

T = TypeVar("T")

#: Bits of nvml.h's clocks event reasons that mean slower -> clock reasons.
_CLOCK_REASONS = {
    0x04: "power_cap",
    0x08: "hardware",
    0x20: "thermal_software",
    0x40: "thermal_hardware",
    0x80: "power_brake",
}


@dataclass(slots=True)
class _Device:
    index: int
    id: str
    name: str
    handle: Any  # None when the GPU was lost before it was opened


class NvmlReader:
    """All GPUs that the driver knows."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._devices: list[_Device] = []
        self._events: Any = None

    def open(self) -> None:
        self._nvml = nvml = _library()
        try:
            nvml.nvmlInit()
            count = min(nvml.nvmlDeviceGetCount(), MAX_ACCELERATORS)
        except nvml.NVMLError as error:
            if error.value == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
                raise LibraryMissing(f"NVML: {error}") from error
            raise ReaderUnavailable(f"NVML: {error}") from error
        self._devices = [self._device(index) for index in range(count)]
        self._watch_events()

    def read(self) -> Sequence[Reading]:
        events = self._new_events()
        return [self._reading(device, events.get(device.id, [])) for device in self._devices]

    def close(self) -> None:
        if self._events is not None:
            self._try_call(self._nvml.nvmlEventSetFree, self._events)
        self._try_call(self._nvml.nvmlShutdown)

    def _device(self, index: int) -> _Device:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            return _Device(
                index, nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle), handle
            )
        except nvml.NVMLError:
            return _Device(index, f"nvml-{index}", "unknown", None)

    def _watch_events(self) -> None:
        """Subscribe to XIDs; without events in the driver, only readings are taken."""
        nvml = self._nvml
        wanted = nvml.nvmlEventTypeXidCriticalError
        try:
            self._events = nvml.nvmlEventSetCreate()
        except nvml.NVMLError:
            return
        for device in self._devices:
            if device.handle is not None:
                supported = self._ask(nvml.nvmlDeviceGetSupportedEventTypes, device.handle)
                types = wanted & (wanted if supported is None else supported)
                self._try_call(nvml.nvmlDeviceRegisterEvents, device.handle, types, self._events)

    def _new_events(self) -> dict[str, list[AcceleratorEvent]]:
        """Return the events since the last call, by the id of their GPU."""
        found: dict[str, list[AcceleratorEvent]] = {}
        nvml = self._nvml
        for _ in range(MAX_EVENTS if self._events is not None else 0):
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
            except nvml.NVMLError:
                break  # a timeout means no event; other errors appear in the readings
            if event.eventType == nvml.nvmlEventTypeXidCriticalError:
                identity = self._ask(nvml.nvmlDeviceGetUUID, event.device) or self._only_id()
                code = int(event.eventData)
                found.setdefault(identity, []).append(AcceleratorEvent("xid", code))
        return found

    def _only_id(self) -> str:
        """Return the first GPU's id, for an event of a lost GPU that has no UUID any more."""
        return self._devices[0].id if self._devices else ""

    def _reading(self, device: _Device, events: list[AcceleratorEvent]) -> Reading:
        nvml, handle = self._nvml, device.handle
        if handle is None or self._is_lost(handle):
            return Reading(device.id, device.index, device.name, lost=True, events=tuple(events))
        usage = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        milliwatts = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
        return Reading(
            id=device.id,
            index=device.index,
            name=device.name,
            utilisation_ratio=None if usage is None else min(usage.gpu, 100) / 100,
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            temperature_celsius=self._temperature_celsius(handle),
            power_watts=None if milliwatts is None else milliwatts / 1_000,
            clock_reasons=self._clock_reasons(handle),
            ecc_corrected=self._ecc(handle, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ecc_uncorrected=self._ecc(handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            events=tuple(events[:MAX_EVENTS]),
        )

    def _is_lost(self, handle: Any) -> bool:  # noqa: ANN401
        nvml = self._nvml
        try:
            nvml.nvmlDeviceGetUtilizationRates(handle)
        except nvml.NVMLError as error:
            return error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED)
        return False

    def _temperature_celsius(self, handle: Any) -> float | None:  # noqa: ANN401
        nvml = self._nvml
        new = self._ask(nvml.nvmlDeviceGetTemperatureV, handle, nvml.NVML_TEMPERATURE_GPU)
        if new is None:  # a driver without the versioned call
            new = self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
        return None if new is None else float(new)

    def _clock_reasons(self, handle: Any) -> tuple[str, ...]:  # noqa: ANN401
        nvml = self._nvml
        bits = self._ask(nvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
        if bits is None:  # the function's name before driver 535
            bits = self._ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle) or 0
        return tuple(word for bit, word in _CLOCK_REASONS.items() if bits & bit)

    def _ecc(self, handle: Any, kind: int) -> int | None:  # noqa: ANN401
        nvml = self._nvml
        return self._ask(nvml.nvmlDeviceGetTotalEccErrors, handle, kind, nvml.NVML_VOLATILE_ECC)

    def _ask(self, call: Callable[..., T], *arguments: Any) -> T | None:  # noqa: ANN401
        """Return a call's result, or None when the GPU does not support it."""
        try:
            return call(*arguments)
        except self._nvml.NVMLError:
            return None

    def _try_call(self, call: Callable[..., object], *arguments: Any) -> None:  # noqa: ANN401
        self._ask(call, *arguments)


def _library() -> Any:  # noqa: ANN401
    try:
        import pynvml  # in the child process only
    except ImportError as error:
        raise LibraryMissing("nvidia-ml-py is not installed: requirements/nvidia.txt") from error
    return pynvml
