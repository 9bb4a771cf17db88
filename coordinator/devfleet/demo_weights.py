"""Makes weights for the laptop's fleet from a model that is there: a fine-tune and an adapter.

Both are made, not trained: their answers differ from the base's, and mean nothing. Made again with
the same seed they are the same bytes. Memory stays within a few chunks, whatever the model's size.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coordinator.devfleet.safetensors_file import (
    ELEMENT_BYTES,
    Tensor,
    read_tensors,
    tensors_of,
    write_tensors,
)
from protos.domain.errors import InvalidRequest

_CHUNK_BYTES = 1024**2
#: Which bits of an element a fine-tune changes: each weight by up to one 64th of its value.
_CHANGED_BITS = {"BF16": 0x0003, "F16": 0x0018, "F32": 0x00030000}
_PREFIX = "base_model.model."
_WEIGHTS = "adapter_model.safetensors"
#: Projections of a decoder layer, as Llama, Mistral, Qwen and Phi name them.
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True, slots=True)
class AdapterRecipe:
    """What to make: with a ``strength`` of 1 the adapter adds to each output of a projection about
    as much as an element of its input has.

    1 changes greedy answers of a small model from the first token on, 0 leaves them as they are.
    """

    seed: int = 1
    rank: int = 8
    modules: tuple[str, ...] = ATTENTION
    strength: float = 1.0


def write_fine_tune(base: Path, target: Path, seed: int = 1) -> None:
    """Write a second set of weights of the shape of ``base`` into the new folder ``target``.

    Every number of every tensor keeps its sign and size and changes in its last bits; the gains of
    the norms change by some percent, so that answers change. The other files are copied: engines
    take such weights in place of the base's.

    Raises: InvalidRequest for files that are not safetensors of floating point numbers.
    """
    target.mkdir(parents=True)
    for path in sorted(base.iterdir()):
        if path.suffix != ".safetensors":
            shutil.copyfile(path, target / path.name)
            continue
        tensors = read_tensors(path)
        rng = random.Random(f"{seed}/{path.name}")
        write_tensors(target / path.name, tensors, _tuned(path, tensors, rng))


def write_adapter(base: Path, target: Path, recipe: AdapterRecipe) -> None:
    """Write a LoRA adapter for ``base`` into the new folder ``target``, in PEFT's format.

    Raises: InvalidRequest when ``base`` has none of the recipe's projections.
    """
    target.mkdir(parents=True)
    found = projections_of(base, recipe.modules)
    if not found:
        raise InvalidRequest(f"{base} has no layers with {', '.join(recipe.modules)}")
    write_config(target, recipe)
    tensors = [tensor for one in found for tensor in lora_pair(one, recipe.rank)]
    write_tensors(target / _WEIGHTS, tensors, _lora_chunks(found, recipe))


def write_config(target: Path, recipe: AdapterRecipe, **changes: object) -> None:
    """Write ``adapter_config.json``; its scale (``lora_alpha`` / ``r``) is 1."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": recipe.rank,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "r": recipe.rank,
        "target_modules": sorted(recipe.modules),
        "use_dora": False,
        "use_rslora": False,
    }
    text = json.dumps(config | changes, indent=2)
    (target / "adapter_config.json").write_text(text + "\n", encoding="utf-8")


def projections_of(base: Path, modules: tuple[str, ...]) -> list[Tensor]:
    """Return the weights of the projections named, [out, in] each, ordered by name."""
    suffixes = tuple(f".{module}.weight" for module in modules)
    return [
        tensor
        for name, tensor in sorted(tensors_of(base).items())
        if name.endswith(suffixes) and len(tensor.shape) == 2
    ]


def lora_pair(projection: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return A, [rank, in], and B, [out, rank], of one projection, as PEFT names them."""
    outputs, inputs = projection.shape
    name = _PREFIX + projection.name.removesuffix(".weight")
    return (
        Tensor(f"{name}.lora_A.weight", "F32", (rank, inputs)),
        Tensor(f"{name}.lora_B.weight", "F32", (outputs, rank)),
    )


def _lora_chunks(projections: list[Tensor], recipe: AdapterRecipe) -> Iterator[bytes]:
    """Yield A and B of every projection.

    Elements of A have variance 1/in, those of B strength^2 / rank: what the adapter adds to an
    output has ``strength`` times the size of an input's element.
    """
    rng = random.Random(f"{recipe.seed}/{recipe.rank}")
    for projection in projections:
        outputs, inputs = projection.shape
        yield normal_f32(rng, recipe.rank * inputs, 1.0 / math.sqrt(inputs))
        yield normal_f32(rng, outputs * recipe.rank, recipe.strength / math.sqrt(recipe.rank))


def normal_f32(rng: random.Random, count: int, deviation: float) -> bytes:
    """Return ``count`` little-endian float32 of a normal distribution around 0."""
    values = array("f", (rng.gauss(0.0, deviation) for _ in range(count)))
    return struct.pack(f"<{count}f", *values)


def _tuned(path: Path, tensors: list[Tensor], rng: random.Random) -> Iterator[bytes]:
    with path.open("rb") as file:
        for tensor in tensors:
            file.seek(tensor.offset_bytes)
            if len(tensor.shape) == 1:
                yield _scaled(file.read(tensor.size_bytes), tensor.dtype, rng)
                continue
            left_bytes = tensor.size_bytes
            while left_bytes and (chunk := file.read(min(_CHUNK_BYTES, left_bytes))):
                left_bytes -= len(chunk)
                yield _flipped(chunk, tensor.dtype, rng)


def _flipped(chunk: bytes, dtype: str, rng: random.Random) -> bytes:
    """Return ``chunk`` with some of each element's last bits changed.

    As one large integer: a loop over elements would take a minute for each 100 million.
    """
    element = ELEMENT_BYTES[dtype]
    pattern = _CHANGED_BITS[dtype].to_bytes(element, "little") * (len(chunk) // element)
    noise = rng.getrandbits(8 * len(chunk)) & int.from_bytes(pattern, "little")
    return (int.from_bytes(chunk, "little") ^ noise).to_bytes(len(chunk), "little")


def _scaled(data: bytes, dtype: str, rng: random.Random) -> bytes:
    """Return a vector of gains with each multiplied by about 1."""
    values = floats_of(data, dtype)
    return bytes_of([value * (1.0 + rng.gauss(0.0, 0.15)) for value in values], dtype)


def floats_of(data: bytes, dtype: str) -> tuple[float, ...]:
    """Return the numbers of a tensor."""
    count = len(data) // ELEMENT_BYTES[dtype]
    if dtype == "BF16":
        words = struct.unpack(f"<{count}H", data)
        return struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *(w << 16 for w in words)))
    return struct.unpack(f"<{count}{'e' if dtype == 'F16' else 'f'}", data)


def bytes_of(values: list[float], dtype: str) -> bytes:
    """Return the bytes of a tensor; bfloat16 is cut, not rounded."""
    count = len(values)
    if dtype == "BF16":
        words = struct.unpack(f"<{count}I", struct.pack(f"<{count}f", *values))
        return struct.pack(f"<{count}H", *(word >> 16 for word in words))
    return struct.pack(f"<{count}{'e' if dtype == 'F16' else 'f'}", *values)
