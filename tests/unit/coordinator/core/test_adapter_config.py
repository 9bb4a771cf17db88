"""adapter_config.json: the keys of PEFT that the engine serves, and no others."""

from __future__ import annotations

import pytest

from coordinator.core.adapter_config import MAX_RANK, check_adapter_config
from protos.domain.errors import InvalidRequest
from tests.support.registry_cases import ADAPTER_CONFIG

#: As peft 0.21 saves one.
PEFT_0_21 = ADAPTER_CONFIG | {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "kasa_config": None,
    "lora_ga_config": None,
    "monteclora_config": None,
    "velora_config": None,
    "exclude_modules": None,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_bias": False,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "peft_version": "0.21.2@UNKNOWN",
    "qalora_group_size": 16,
    "revision": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "use_qalora": False,
}


def test_what_peft_saves_is_taken():
    config = check_adapter_config(PEFT_0_21)
    assert (config.rank, config.max_rank) == (4, 4)
    assert config.target_modules == {"q_proj", "v_proj"}


def test_a_start_that_leaves_the_base_as_it_is_is_taken():
    started = {"init_lora_weights": "eva", "eva_config": {"rho": 2.0, "whiten": False}}
    assert check_adapter_config(PEFT_0_21 | started).rank == 4


def test_targets_given_as_an_expression_are_what_the_tensors_say():
    assert check_adapter_config(PEFT_0_21 | {"target_modules": "all-linear"}).target_modules is None


def test_the_rank_of_a_module_is_the_first_pattern_that_ends_its_name():
    config = check_adapter_config(
        PEFT_0_21 | {"rank_pattern": {"layers.1.self_attn.q_proj": 16, "q_proj": 8}}
    )
    assert config.rank_of("model.layers.1.self_attn.q_proj") == 16
    assert config.rank_of("model.layers.0.self_attn.q_proj") == 8
    assert config.rank_of("model.layers.0.self_attn.v_proj") == 4
    assert config.rank_of("model.layers.0.self_attn.not_q_proj") == 4
    assert config.max_rank == 16


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"peft_type": None}, "peft_type"),
        ({"use_dora": True}, "DoRA"),
        ({"use_qalora": True}, "QALoRA"),
        ({"use_bdlora": {"a": 1}}, "block-diagonal"),
        ({"lora_bias": True}, "LoRA with a bias"),
        ({"layer_replication": [[0, 1]]}, "replicated layers"),
        ({"target_parameters": ["experts.down_proj"]}, "bare parameters"),
        ({"trainable_token_indices": [5]}, "trained tokens"),
        ({"alora_invocation_tokens": [1]}, "activated LoRA"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"kasa_config": {"beta": 1}}, "kasa_config"),
        ({"bias": "lora_only"}, "biases"),
        ({"task_type": "SEQ_CLS"}, "task_type"),
        ({"r": 0}, "r is not a whole number above 0"),
        ({"r": True}, "r is not a whole number above 0"),
        ({"r": MAX_RANK + 1}, "is more than 64"),
        ({"lora_alpha": 0}, "lora_alpha"),
        ({"lora_alpha": 1e30}, "lora_alpha is 1e+30"),
        ({"lora_alpha": 1e-30}, "lora_alpha is 1e-30"),
        ({"use_rslora": [1]}, "use_rslora"),
        ({"target_modules": []}, "target_modules"),
        ({"rank_pattern": {"(a|a)*$": 4}}, "the name of a module"),
        ({"auto_mapping": {"parent_library": "evil.module"}}, "a part of transformers"),
        ({"trust_remote_code": True}, "its own code"),
        ({"resolver": "http://10.0.0.1/"}, "names an address"),
    ],
)
def test_what_the_engine_would_answer_otherwise_is_refused(change, says):
    with pytest.raises(InvalidRequest) as refused:
        check_adapter_config(PEFT_0_21 | change)
    assert says in str(refused.value)


@pytest.mark.parametrize("alpha", [0, -5, True, [1, 2], None, 1e30, 1e-30])
def test_a_pattern_that_switches_an_adapter_off_or_overflows_is_refused(alpha):
    with pytest.raises(InvalidRequest, match=r"alpha_pattern\.q_proj"):
        check_adapter_config(PEFT_0_21 | {"alpha_pattern": {"q_proj": alpha}})
    assert check_adapter_config(PEFT_0_21 | {"alpha_pattern": {"q_proj": 32}}).rank == 4
