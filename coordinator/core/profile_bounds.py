"""What an engine's profile may claim: no more than its accelerators can compute and read.

A node tells its own profile, and which accelerators it has. The bounds are physical: one pass over
the weights takes at least their bytes over the memory's bandwidth, and a token at least its
arithmetic over the peak. The bytes of weights take the same time at 16, 8 and 4 bits, since the
peak doubles as the bytes halve. An accelerator that is not in the table counts as a processor.
Bounds keep a false claim plausible; ``protos.domain.trust`` limits what a plausible one wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from protos.domain.pricing import SIZE_CLASS_BOUNDS_BYTES

if TYPE_CHECKING:
    from protos.domain.resources import EngineProfile, Model


@dataclass(frozen=True, slots=True)
class Accelerator:
    """Peak figures of one device; 16-bit arithmetic without sparsity."""

    bytes_per_s: float
    flop_per_s: float
    #: Time of a first token beyond memory and arithmetic: scheduling, sampling, HTTP.
    overhead_ms: float = 2.0
    #: Sequences in one batch. Source: vLLM 0.32, ``EngineArgs``, its default for large devices.
    max_parallel: int = 1_024


#: Two sockets of twelve channels DDR5-6400 with AMX. Source: Intel, Xeon 6900P product brief.
PROCESSOR = Accelerator(1.2e12, 2.0e14, overhead_ms=5.0, max_parallel=256)
#: A part of the name that the driver reports -> its figures; the first that matches counts.
#: Sources: data sheets of NVIDIA (B200, H200, H100 NVL, A100 80GB, L40S, L40, L4, A10, T4, V100,
#: RTX 5090, 4090, 3090, 6000 Ada, A6000) and AMD (Instinct MI355X to MI210).
ACCELERATORS = {
    "B300": Accelerator(8.0e12, 2.5e15),
    "B200": Accelerator(8.0e12, 2.5e15),
    "H200": Accelerator(4.9e12, 9.9e14),
    "H100": Accelerator(3.94e12, 9.9e14),
    "A100": Accelerator(2.04e12, 3.12e14),
    "L40S": Accelerator(8.64e11, 3.63e14),
    "L40": Accelerator(8.64e11, 1.82e14),
    "L4": Accelerator(3.0e11, 1.21e14),
    "A10": Accelerator(6.0e11, 1.25e14),
    "T4": Accelerator(3.2e11, 6.5e13),
    "V100": Accelerator(1.13e12, 1.3e14),
    "5090": Accelerator(1.79e12, 4.2e14),
    "4090": Accelerator(1.01e12, 3.31e14),
    "3090": Accelerator(9.36e11, 1.42e14),
    "6000 Ada": Accelerator(9.6e11, 3.65e14),
    "A6000": Accelerator(7.68e11, 1.55e14),
    "MI355": Accelerator(8.0e12, 2.52e15),
    "MI350": Accelerator(8.0e12, 2.31e15),
    "MI325": Accelerator(6.0e12, 1.31e15),
    "MI300": Accelerator(5.3e12, 1.31e15),
    "MI250": Accelerator(3.28e12, 3.83e14),
    "MI210": Accelerator(1.64e12, 1.81e14),
}
#: Devices that may work on one model together; further ones count for nothing.
MAX_DEVICES = 16
#: Weights of a model whose size is not known: smaller than any language model in use.
LEAST_WEIGHTS_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class ProfileBounds:
    """The best figures that a profile may have."""

    first_token_ms_p99: float
    prefill_ms_per_token: float
    tokens_per_s: float
    max_parallel: int
    #: 0: no bound is known.
    context_tokens: int


def profile_bounds(accelerators: Sequence[str], model: Model) -> ProfileBounds:
    """Return the bounds for ``model`` on devices of these names."""
    devices = [_device(name) for name in accelerators[:MAX_DEVICES]] or [PROCESSOR]
    weights_bytes = max(model.weights_bytes, _least_bytes(model.size_class))
    per_token_s = weights_bytes / sum(device.flop_per_s for device in devices)
    pass_s = weights_bytes / sum(device.bytes_per_s for device in devices)
    return ProfileBounds(
        first_token_ms_p99=min(device.overhead_ms for device in devices) + 1_000.0 * pass_s,
        prefill_ms_per_token=1_000.0 * per_token_s,
        tokens_per_s=1.0 / per_token_s,
        max_parallel=sum(device.max_parallel for device in devices),
        context_tokens=model.context_tokens,
    )


def bounded_profile(told: EngineProfile, bounds: ProfileBounds) -> EngineProfile:
    """Return ``told`` with every figure that is better than its bound replaced by the bound."""
    context_tokens = told.context_tokens
    if bounds.context_tokens > 0:
        context_tokens = min(context_tokens, bounds.context_tokens)
    return replace(
        told,
        first_token_ms_p99=max(told.first_token_ms_p99, bounds.first_token_ms_p99),
        prefill_ms_per_token=max(told.prefill_ms_per_token, bounds.prefill_ms_per_token),
        tokens_per_s=min(told.tokens_per_s, bounds.tokens_per_s),
        max_parallel=min(told.max_parallel, bounds.max_parallel),
        context_tokens=context_tokens,
    )


def flattery(told: EngineProfile, bounded: EngineProfile) -> str:
    """Return which figures of ``told`` were out of bounds, for operators; empty if none."""
    words = []
    if told.first_token_ms_p99 < bounded.first_token_ms_p99:
        words.append(f"a first token of {told.first_token_ms_p99:g} ms")
    if told.prefill_ms_per_token < bounded.prefill_ms_per_token and told.prefill_ms_per_token > 0.0:
        words.append(f"{told.prefill_ms_per_token:g} ms a prompt token")
    if told.tokens_per_s > bounded.tokens_per_s:
        words.append(f"{told.tokens_per_s:g} tokens/s")
    if told.max_parallel > bounded.max_parallel:
        words.append(f"{told.max_parallel} requests at once")
    return ", ".join(words)


def _device(name: str) -> Accelerator:
    for part, device in ACCELERATORS.items():
        if part in name:
            return device
    return PROCESSOR


def _least_bytes(size_class: str) -> int:
    """Return the least bytes of weights of a size class; an external model's are not known."""
    least_bytes = LEAST_WEIGHTS_BYTES
    for name, bound_bytes in SIZE_CLASS_BOUNDS_BYTES:
        if name == size_class:
            return least_bytes
        least_bytes = bound_bytes
    return least_bytes
