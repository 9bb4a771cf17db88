"""Reads AMD GPUs through ``amdsmi``, the Python binding of AMD's management library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from agent.core.accelerators import MAX_ACCELERATORS, MAX_EVENTS, AcceleratorEvent, Reading
from agent.gpu.reader import LibraryMissing, ReaderUnavailable

T = TypeVar("T")

_MIB = 1024 * 1024
#: Fields of amdsmi.h's amdsmi_violation_status_t -> clock reasons.
_CLOCK_REASONS = {
    "active_ppt_pwr": "power_cap",
    "active_prochot_thrm": "thermal_hardware",
    "active_socket_thrm": "thermal_hardware",
    "active_vr_thrm": "thermal_hardware",
    "active_hbm_thrm": "thermal_memory",
}


@dataclass(slots=True)
class _Device:
    index: int
    id: str
    name: str
    handle: Any
    events: Any


class AmdSmiReader:
    """All GPUs that the driver knows."""

    def __init__(self) -> None:
        self._smi: Any = None
        self._devices: list[_Device] = []

    def open(self) -> None:
        self._smi = smi = _library()
        try:
            smi.amdsmi_init(smi.AmdSmiInitFlags.INIT_AMD_GPUS)
            handles = smi.amdsmi_get_processor_handles()[:MAX_ACCELERATORS]
        except smi.AmdSmiException as error:
            raise ReaderUnavailable(f"amdsmi: {_text(error)}") from error
        self._devices = [self._device(index, handle) for index, handle in enumerate(handles)]

    def read(self) -> Sequence[Reading]:
        events = self._new_events()
        return [
            self._reading(device, tuple(events.get(device.index, ()))) for device in self._devices
        ]

    def close(self) -> None:
        self._ask(self._smi.amdsmi_shut_down)

    def _device(self, index: int, handle: Any) -> _Device:  # noqa: ANN401
        smi = self._smi
        identity = self._ask(smi.amdsmi_get_gpu_device_uuid, handle) or f"amd-{index}"
        asic = self._ask(smi.amdsmi_get_gpu_asic_info, handle)
        name = str(asic.get("market_name", "unknown")) if asic else "unknown"
        kind = smi.AmdSmiEvtNotificationType
        # Events need access to the device file; without it only counters are read.
        events = self._ask(smi.AmdSmiEventReader, handle, [kind.GPU_PRE_RESET])
        return _Device(index, identity, name, handle, events)

    def _reading(self, device: _Device, events: tuple[AcceleratorEvent, ...]) -> Reading:
        smi, handle = self._smi, device.handle
        if self._is_lost(handle):
            return Reading(device.id, device.index, device.name, lost=True, events=events)
        usage = _counted(self._ask(smi.amdsmi_get_gpu_activity, handle), "gfx_activity")
        memory = self._ask(smi.amdsmi_get_gpu_vram_usage, handle)
        used_mib, total_mib = _counted(memory, "vram_used"), _counted(memory, "vram_total")
        power = self._ask(smi.amdsmi_get_power_info, handle)
        watts = _counted(power, "current_socket_power")
        if watts is None:
            watts = _counted(power, "average_socket_power")
        errors = self._ask(smi.amdsmi_get_gpu_total_ecc_count, handle)
        return Reading(
            id=device.id,
            index=device.index,
            name=device.name,
            utilisation_ratio=None if usage is None else min(usage, 100) / 100,
            memory_used_bytes=None if used_mib is None else used_mib * _MIB,
            memory_total_bytes=None if total_mib is None else total_mib * _MIB,
            temperature_celsius=self._temperature_celsius(handle),
            power_watts=None if watts is None else float(watts),
            clock_reasons=self._clock_reasons(handle),
            ecc_corrected=_counted(errors, "correctable_count"),
            ecc_uncorrected=_counted(errors, "uncorrectable_count"),
            events=events,
        )

    def _is_lost(self, handle: Any) -> bool:  # noqa: ANN401
        """Return whether the driver cannot reach the GPU, which several codes report."""
        smi = self._smi
        gone = {
            smi.amdsmi_wrapper.AMDSMI_STATUS_NOT_FOUND,
            smi.amdsmi_wrapper.AMDSMI_STATUS_DRIVER_NOT_LOADED,
            smi.amdsmi_wrapper.AMDSMI_STATUS_IO,
        }
        try:
            smi.amdsmi_get_gpu_vram_usage(handle)
        except smi.AmdSmiLibraryException as error:
            return error.get_error_code() in gone
        except smi.AmdSmiException:
            return False
        return False

    def _temperature_celsius(self, handle: Any) -> float | None:  # noqa: ANN401
        smi = self._smi
        for sensor in (smi.AmdSmiTemperatureType.HOTSPOT, smi.AmdSmiTemperatureType.EDGE):
            found = self._ask(
                smi.amdsmi_get_temp_metric, handle, sensor, smi.AmdSmiTemperatureMetric.CURRENT
            )
            if found is not None:
                return float(found)
        return None

    def _clock_reasons(self, handle: Any) -> tuple[str, ...]:  # noqa: ANN401
        status = self._ask(self._smi.amdsmi_get_violation_status, handle) or {}
        active = {word for key, word in _CLOCK_REASONS.items() if status.get(key) is True}
        return tuple(sorted(active))

    def _new_events(self) -> dict[int, list[AcceleratorEvent]]:
        """Return new events by the index of their GPU; the library has one queue for all."""
        listening = [device for device in self._devices if device.events is not None]
        found = self._ask(listening[0].events.read, 0, MAX_EVENTS) if listening else None
        by_index: dict[int, list[AcceleratorEvent]] = {}
        kind = self._smi.AmdSmiEvtNotificationType
        for one in found or []:
            source = one["processor_handle"].value
            for device in self._devices:
                if device.handle.value == source:
                    event = AcceleratorEvent("ras", int(kind[one["event"]]), str(one["message"]))
                    by_index.setdefault(device.index, []).append(event)
        return by_index

    def _ask(self, call: Callable[..., T], *arguments: Any) -> T | None:  # noqa: ANN401
        """Return a call's result, or None when the GPU does not support it."""
        try:
            return call(*arguments)
        except self._smi.AmdSmiException:
            return None


def _library() -> Any:  # noqa: ANN401
    try:
        import amdsmi  # in the child process only
    except ImportError as error:
        raise LibraryMissing("amdsmi is not installed: requirements/amd.txt") from error
    except (KeyError, AttributeError, OSError) as error:
        # Raised by the import when libamd_smi.so is absent or has another version.
        raise LibraryMissing(f"amdsmi cannot load libamd_smi.so: {error!r}") from error
    return amdsmi


def _counted(answer: dict[str, Any] | None, key: str) -> int | None:
    """Return a number, or None: the binding answers "N/A" for what is not supported."""
    value = None if answer is None else answer.get(key)
    return value if isinstance(value, int) else None


def _text(error: Exception) -> str:
    return " ".join(str(error).split())
