"""Tensors of an adapter against its base; more cases are in tests/support/registry_cases.py."""

from __future__ import annotations

import pytest

from coordinator.core.adapter_config import AdapterConfig
from coordinator.core.adapter_tensors import (
    MODULES_OF_ARCHITECTURE,
    Base,
    check_fits,
    check_values,
    misfits,
)
from coordinator.core.safetensors_header import Tensor
from protos.domain.errors import InvalidRequest
from protos.domain.manifest import FAMILY_OF_ARCHITECTURE

Q = "model.layers.0.self_attn.q_proj"
CONFIG = AdapterConfig(4, None)


def tensor(*shape: int, dtype: str = "BF16") -> Tensor:
    return Tensor(dtype, shape, 0, 0)


def base(architecture: str = "LlamaForCausalLM", **tensors: Tensor) -> Base:
    found = {f"{Q}.weight": tensor(16, 8)} | tensors
    return Base("acme/base@1", architecture, found)


def pair(module: str = Q, a: Tensor | None = None, b: Tensor | None = None) -> dict[str, Tensor]:
    at = f"base_model.model.{module}"
    return {
        f"{at}.lora_A.weight": a or tensor(4, 8),
        f"{at}.lora_B.weight": b or tensor(16, 4),
    }


def test_a_pair_that_fits_is_used_wholly():
    assert misfits(pair(), CONFIG, base()) == []


@pytest.mark.parametrize(
    ("tensors", "of", "says"),
    [
        (pair(a=tensor(4, 9)), base(), "has the shape 4x9, the base needs 4x8"),
        (pair(b=tensor(8, 4)), base(), "has the shape 8x4, the base needs 16x4"),
        (pair(a=tensor(4, 8, 1)), base(), "has the shape 4x8x1, not two dimensions"),
        (pair(a=tensor(4, 8, dtype="I8")), base(), "has the type I8"),
        (pair("model.layers.0.mlp.gate_proj"), base(), "is no module of the base"),
        (pair("lm_head"), base(), "lm_head of LlamaForCausalLM takes no adapter here"),
        (pair(), base(**{f"{Q}.weight": tensor(16, 1, dtype="I32")}), "are quantised (I32 16x1)"),
        (
            pair("model.layers.0.mlp.experts.0.gate_proj"),
            base("Qwen3MoeForCausalLM"),
            "takes no adapter here",
        ),
        ({f"base_model.model.{Q}.lora_magnitude": tensor(16)}, base(), "is not a tensor"),
        ({f"{Q}.lora_A.weight": tensor(4, 8)}, base(), "is not a tensor of a LoRA adapter"),
        ({f"base_model.model.{Q}.lora_A.weight": tensor(4, 8)}, base(), "lora_B is missing"),
    ],
)
def test_what_the_base_would_not_use_is_named(tensors, of, says):
    assert says in "; ".join(misfits(tensors, CONFIG, of))
    with pytest.raises(InvalidRequest, match="does not fit acme/base@1"):
        check_fits(tensors, CONFIG, of)


def test_a_refusal_names_ten_and_counts_the_rest():
    many = {name: one for layer in range(20) for name, one in pair(f"model.l{layer}.x").items()}
    with pytest.raises(InvalidRequest, match="and 10 more"):
        check_fits(many, CONFIG, base())


def test_weights_in_8_bits_have_their_layers_shape():
    quantised = base(**{f"{Q}.weight": tensor(16, 8, dtype="F8_E4M3")})
    assert misfits(pair(), CONFIG, quantised) == []


def test_every_served_architecture_says_which_modules_take_adapters():
    assert set(MODULES_OF_ARCHITECTURE) == set(FAMILY_OF_ARCHITECTURE)
    with pytest.raises(InvalidRequest, match="are not served"):
        check_fits(pair(), CONFIG, base("OtherForCausalLM"))


def test_one_module_with_values_on_both_sides_is_enough():
    tensors = pair() | pair("model.layers.1.self_attn.q_proj")
    check_values(tensors, set(pair()), set())
    with pytest.raises(InvalidRequest, match="zero on one side"):
        check_values(tensors, {one for one in tensors if "lora_A" in one}, set())
    with pytest.raises(InvalidRequest, match="are all zero"):
        check_values(tensors, set(), set())


def test_one_tensor_that_is_not_finite_is_named():
    tensors = pair()
    with pytest.raises(InvalidRequest, match=r"1 of the 2 tensors .*not finite.*lora_A"):
        check_values(tensors, set(tensors), {min(tensors)})
