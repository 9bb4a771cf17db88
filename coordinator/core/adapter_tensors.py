"""Whether the tensors of a LoRA adapter fit its base: each of them used, each of the right shape.

An engine skips what it does not recognise and answers with the base, so nothing may be left over.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from coordinator.core.adapter_config import AdapterConfig
    from coordinator.core.safetensors_header import Tensor

WEIGHTS_NAME: Final = "adapter_model.safetensors"
#: Misfits that a refusal names.
SHOWN: Final = 10

_ATTENTION: Final = "q_proj k_proj v_proj o_proj"
_DENSE: Final = frozenset(f"{_ATTENTION} gate_proj up_proj down_proj".split())
_SPARSE: Final = frozenset(_ATTENTION.split())
#: Architecture -> the linear layers, as its checkpoints name them, that an adapter may change.
MODULES_OF_ARCHITECTURE: Final[Mapping[str, frozenset[str]]] = {
    "LlamaForCausalLM": _DENSE,
    "MistralForCausalLM": _DENSE,
    "MixtralForCausalLM": _SPARSE,
    "Qwen2ForCausalLM": _DENSE,
    "Qwen2MoeForCausalLM": _SPARSE,
    "Qwen3ForCausalLM": _DENSE,
    "Qwen3MoeForCausalLM": _SPARSE,
    "PhiForCausalLM": frozenset(["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"]),
    "Phi3ForCausalLM": frozenset(["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
    "PhiMoEForCausalLM": _SPARSE,
}
_FLOATS: Final = frozenset({"F16", "BF16", "F32"})
#: Types of a base's weights whose shape is that of the layer.
_BASE_FLOATS: Final = _FLOATS | {"F8_E4M3", "F8_E5M2"}
_NAME: Final = re.compile(
    r"(?:base_model\.model\.)(?P<module>[\w.]+)\.lora_(?P<side>[AB])\.weight", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Base:
    """What an adapter is checked against: a model's architecture and the tensors of its files."""

    name: str
    architecture: str
    tensors: Mapping[str, Tensor]


@dataclass(slots=True)
class _Pair:
    a: Tensor | None = None
    b: Tensor | None = None


def misfits(tensors: Mapping[str, Tensor], config: AdapterConfig, base: Base) -> list[str]:
    """Return a sentence for each tensor that ``base`` would not use as it is, in order."""
    allowed = MODULES_OF_ARCHITECTURE.get(base.architecture, frozenset())
    pairs: dict[str, _Pair] = {}
    problems = []
    for name, tensor in sorted(tensors.items()):
        match = _NAME.fullmatch(name)
        if match is None:
            problems.append(f"{name[:120]!a} is not a tensor of a LoRA adapter")
            continue
        if tensor.dtype not in _FLOATS:
            problems.append(f"{name[:120]} has the type {tensor.dtype}")
        if len(tensor.shape) != 2:
            problems.append(f"{name[:120]} has the shape {_shape(tensor)}, not two dimensions")
            continue
        pair = pairs.setdefault(match["module"], _Pair())
        if match["side"] == "A":
            pair.a = tensor
        else:
            pair.b = tensor
    for module, pair in sorted(pairs.items()):
        problems += _pair_problems(module, pair, config, base, allowed)
    return problems


def check_fits(tensors: Mapping[str, Tensor], config: AdapterConfig, base: Base) -> None:
    """Refuse an adapter that ``base`` would not use wholly. Raises: InvalidRequest."""
    if base.architecture not in MODULES_OF_ARCHITECTURE:
        raise InvalidRequest(
            f"adapters of {base.name}, which is {base.architecture[:80]!a}, are not served",
            "served: " + " ".join(MODULES_OF_ARCHITECTURE),
        )
    if problems := misfits(tensors, config, base):
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise InvalidRequest(
            f"the adapter does not fit {base.name}: {'; '.join(problems[:SHOWN])}{more}",
            "name the model that it was trained on as its base",
        )


def check_values(
    tensors: Mapping[str, Tensor], nonzero: Collection[str], not_finite: Collection[str]
) -> None:
    """Refuse an adapter that breaks its base, or changes nothing.

    ``not_finite`` names the tensors that hold NaN or an infinity, with which every answer is
    noise; ``nonzero`` those that hold a value other than zero: no module that has one in both of
    its tensors, no change. Raises: InvalidRequest.
    """
    if not_finite:
        first = min(not_finite)[:120]
        raise InvalidRequest(
            f"{len(not_finite)} of the {len(tensors)} tensors of the adapter hold values that are"
            f" not finite, such as {first!a}",
            "its training has diverged; save it from before",
        )
    sides: dict[str, set[str]] = {}
    for name in nonzero:
        if (match := _NAME.fullmatch(name)) is not None:
            sides.setdefault(match["module"], set()).add(match["side"])
    if any(len(found) == 2 for found in sides.values()):
        return
    what = "are all zero" if not nonzero else "are zero on one side of every module"
    raise InvalidRequest(
        f"the {len(tensors)} tensors of the adapter {what}: it would answer as its base does",
        "save it after it was trained",
    )


def _pair_problems(
    module: str, pair: _Pair, config: AdapterConfig, base: Base, allowed: frozenset[str]
) -> list[str]:
    shown, leaf = module[:120], module.rpartition(".")[2]
    if leaf not in allowed:
        return [f"{shown}: {leaf[:40]} of {base.architecture} takes no adapter here"]
    if config.target_modules is not None and leaf not in config.target_modules:
        return [f"{shown} is not among the target_modules"]
    weight = base.tensors.get(f"{module}.weight")
    if weight is None:
        return [f"{shown} is no module of the base"]
    if weight.dtype not in _BASE_FLOATS or len(weight.shape) != 2:
        return [f"{shown}: the base's weights are quantised ({weight.dtype} {_shape(weight)})"]
    out_features, in_features = weight.shape
    rank = config.rank_of(module)
    problems = []
    for side, tensor, wanted in (
        ("A", pair.a, (rank, in_features)),
        ("B", pair.b, (out_features, rank)),
    ):
        if tensor is None:
            problems.append(f"{shown}.lora_{side} is missing")
        elif tensor.shape != wanted:
            problems.append(
                f"{shown}.lora_{side} has the shape {_shape(tensor)},"
                f" the base needs {wanted[0]}x{wanted[1]}"
            )
    return problems


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
