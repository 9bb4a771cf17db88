"""What ``adapter_config.json`` of a LoRA adapter may say: keys of PEFT that vLLM 0.32 serves.

The keys are those that PEFT up to 0.21 saves.

Source: vllm/lora/peft_helper.py. vLLM ignores keys that it does not know, so a kind of adapter
that it does not implement would be answered as if it were another; those are refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from coordinator.core.json_shape import (
    Either,
    Fields,
    Many,
    Matching,
    Named,
    Nothing,
    Numbers,
    Shape,
    Text,
    check_shape,
    each,
    words,
)
from protos.domain.errors import InvalidRequest
from protos.domain.manifest import refuse_remote_code

CONFIG_NAME: Final = "adapter_config.json"
#: Highest rank. An engine reserves memory for each slot by the highest rank it may load.
MAX_RANK: Final = 64
#: Adapters in use have 1 to 1,000. Far above, 16-bit values overflow; far below, nothing changes.
MIN_ALPHA: Final = 1e-3
MAX_ALPHA: Final = 1e5
_MAX_MODULES: Final = 256

_NUMBER: Final = Numbers()
#: vLLM matches the keys of patterns as regular expressions: words and dots only.
_MODULE: Final = Matching(re.compile(r"[\w.]{1,200}", re.ASCII), "the name of a module")
_PATTERN: Final = Named(_MODULE, _NUMBER, _MAX_MODULES)
#: Several of PEFT's ways to start change the base's weights too, which no engine here does.
_STARTS: Final = words("gaussian eva orthogonal mica lora_ga")

_KEYS: Final[dict[str, Shape]] = {
    **each(
        "alora_invocation_tokens arrow_config auto_map corda_config kasa_config "
        "layer_replication loftq_config lora_bias megatron_config modules_to_save "
        "monteclora_config target_parameters trainable_token_indices use_bdlora use_dora "
        "use_qalora velora_config",
        Nothing(),
    ),
    **each(
        "fan_in_fan_out inference_mode lora_dropout layers_to_transform qalora_group_size r "
        "use_rslora lora_alpha ensure_weight_tying",
        _NUMBER,
    ),
    "alpha_pattern": _PATTERN,
    "rank_pattern": _PATTERN,
    # How a start was drawn that leaves the base as it is.
    **each("eva_config lora_ga_config", Named(_MODULE, Either((str,), Text(60), _NUMBER), 32)),
    # Which of transformers' classes was trained; only PEFT itself looks it up.
    "auto_mapping": Fields(
        {
            "base_model_class": Matching(re.compile(r"\w{1,80}", re.ASCII), "a word"),
            "parent_library": Matching(
                re.compile(r"transformers(\.\w{1,40}){0,4}", re.ASCII), "a part of transformers"
            ),
            "unsloth_fixed": _NUMBER,
        }
    ),
    "base_model_name_or_path": Text(500),
    "bias": words("none"),
    "exclude_modules": Either((str,), Text(2_000), Many(_MODULE, _MAX_MODULES)),
    "init_lora_weights": Either((str,), _STARTS, _NUMBER),
    "layers_pattern": Either((str,), _MODULE, Many(_MODULE, _MAX_MODULES)),
    "megatron_core": Text(100),
    "peft_type": words("LORA"),
    "peft_version": Text(40),
    "revision": Text(100),
    "target_modules": Either((str,), Text(2_000), Many(_MODULE, _MAX_MODULES)),
    "task_type": words("CAUSAL_LM"),
}
_SHAPE: Final = Fields(_KEYS)
_UNSERVED: Final = {
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "lora_bias": "LoRA with a bias",
    "modules_to_save": "an adapter that replaces whole modules",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "replicated layers",
    "target_parameters": "LoRA of bare parameters",
    "trainable_token_indices": "trained tokens",
}


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The parts of an ``adapter_config.json`` that tensors are checked by."""

    rank: int
    #: None: what its tensors say.
    target_modules: frozenset[str] | None
    rank_pattern: Mapping[str, int] = field(default_factory=dict)

    @property
    def max_rank(self) -> int:
        """The highest rank of a module."""
        return max([self.rank, *self.rank_pattern.values()])

    def rank_of(self, module: str) -> int:
        """Return the rank of ``module``, by the rule of PEFT and vLLM: the first match wins."""
        for key, rank in self.rank_pattern.items():
            if re.match(rf"(.*\.)?({key})$", module):
                return rank
        return self.rank


def check_adapter_config(config: Mapping[str, object]) -> AdapterConfig:
    """Return what tensors are checked by, of an adapter that is served. Raises: InvalidRequest."""
    refuse_remote_code(config)
    if config.get("peft_type") != "LORA":
        raise InvalidRequest(
            f"{CONFIG_NAME}: peft_type {str(config.get('peft_type'))[:40]!a} is not served",
            "LORA is",
        )
    for key, what in _UNSERVED.items():
        if config.get(key):
            raise InvalidRequest(
                f"{CONFIG_NAME}: {key}: {what} is not served", "train a plain LoRA adapter"
            )
    if config.get("bias", "none") != "none":
        raise InvalidRequest(
            f"{CONFIG_NAME}: an adapter with biases is not served", 'train it with bias="none"'
        )
    check_shape(_SHAPE, config, CONFIG_NAME)
    rank = _rank(config.get("r"), "r")
    _check_alpha(config.get("lora_alpha"), "lora_alpha")
    alphas = config.get("alpha_pattern") or {}
    assert isinstance(alphas, Mapping)
    for key, value in alphas.items():
        _check_alpha(value, f"alpha_pattern.{key}")
    if not isinstance(config.get("use_rslora") or False, bool):
        raise InvalidRequest(f"{CONFIG_NAME}: use_rslora is neither true nor false")
    pattern = config.get("rank_pattern") or {}
    assert isinstance(pattern, Mapping)
    ranks = {str(key): _rank(value, f"rank_pattern.{key}") for key, value in pattern.items()}
    targets = config.get("target_modules")
    if not targets:
        raise InvalidRequest(f"{CONFIG_NAME} has no target_modules", "save it again with peft")
    named = (
        frozenset(str(one).rpartition(".")[2] for one in targets)
        if isinstance(targets, list)
        else None
    )
    return AdapterConfig(rank, named, ranks)


def _check_alpha(value: object, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise InvalidRequest(
            f"{CONFIG_NAME}: {what} is no number above 0", "save it again with peft"
        )
    if not MIN_ALPHA <= value <= MAX_ALPHA:
        raise InvalidRequest(
            f"{CONFIG_NAME}: {what} is {value:g}, {MIN_ALPHA:g} to {MAX_ALPHA:g} are allowed",
            "scale the adapter's tensors instead",
        )


def _rank(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequest(f"{CONFIG_NAME}: {what} is not a whole number above 0")
    if value > MAX_RANK:
        raise InvalidRequest(
            f"{CONFIG_NAME}: the rank {value} is more than {MAX_RANK}",
            f"train it with a rank of at most {MAX_RANK}",
        )
    return value
