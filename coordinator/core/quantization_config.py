"""What ``quantization_config`` may say, and the files of their own that quantisers write it to."""

from __future__ import annotations

import re
from typing import Final

from coordinator.core.json_shape import (
    VERSION,
    Either,
    Fields,
    Many,
    Matching,
    Named,
    Nothing,
    Numbers,
    Shape,
    Words,
    words,
)

#: Methods that vLLM runs with kernels of its own. torchao is not: its configuration names classes.
QUANT_METHODS: Final = words("awq compressed-tensors fbgemm_fp8 fp8 gptq modelopt")

#: The layout of AWQ's weights, by the name of its kernels.
_KERNELS: Final = words("gemm gemv gemv_fast marlin exllama GEMM GEMV")
#: A module of the network, ``*`` for any: compared with names of weights only.
_MODULE: Final = re.compile(r"[A-Za-z0-9_*]+(\.[A-Za-z0-9_*]+)*")
#: ``re:`` starts a pattern that vLLM matches with names of modules. No group is repeated, and few
#: things are, so that it ends in time on every name.
_MODULE_PATTERN: Final = re.compile(
    r"re:(?:[A-Za-z0-9_^$|()]|\\[.dw]|\.\*|\.)*",
)
_MAX_STARS: Final = 4


class _Module:
    """A module's name, or a pattern for some."""

    def check(self, value: object, at: str) -> None:
        is_pattern = isinstance(value, str) and value.startswith("re:")
        wanted = "a module's name, or re: and a plain pattern with at most four .*"
        pattern = _MODULE_PATTERN if is_pattern else _MODULE
        if is_pattern and str(value).count("*") > _MAX_STARS:
            pattern = re.compile(r"(?!)")
        Matching(pattern, wanted).check(value, at)


_NUMBER: Final = Numbers()
_MODULES: Final = Many(_Module())
_STRATEGY: Final = words("tensor channel group block token tensor_group attn_head")

_ARGUMENTS: Final = Fields(
    {
        "actorder": Either((str,), words("group weight static dynamic"), _NUMBER),
        "block_structure": Either((str,), Matching(re.compile(r"\d+x\d+"), "128x128"), _NUMBER),
        "dynamic": Either((str,), words("local"), _NUMBER),
        "group_size": _NUMBER,
        "num_bits": _NUMBER,
        "observer": words("minmax mse static_minmax memoryless_minmax"),
        "observer_kwargs": Nothing(),
        "scale_dtype": words("torch.float8_e4m3fn torch.uint8 torch.bfloat16 torch.float16"),
        "strategy": _STRATEGY,
        "symmetric": _NUMBER,
        "type": words("int float"),
        "zp_dtype": words("torch.int8 torch.uint8 torch.float8_e4m3fn"),
    }
)
_FORMAT: Final = words(
    "dense pack-quantized int-quantized float-quantized naive-quantized marlin-24 "
    "nvfp4-pack-quantized mxfp4-pack-quantized mixed-precision sparse-bitmask sparse-24-bitmask"
)
_GROUP: Final = Fields(
    {
        "format": _FORMAT,
        "input_activations": _ARGUMENTS,
        "output_activations": _ARGUMENTS,
        "targets": _MODULES,
        "weights": _ARGUMENTS,
    }
)
_ALGORITHM: Final = words("FP8 NVFP4 FP8_PB_WO FP8_PER_CHANNEL_PER_TOKEN W4A16_AWQ W4A8_AWQ MXFP8")

_SHAPES: Final[dict[str, Shape]] = {
    "act_per_tensor": _NUMBER,
    "activation_scale_ub": _NUMBER,
    "activation_scheme": words("dynamic static"),
    "backend": words("autoawq llm-awq"),
    "batch_size": _NUMBER,
    "bits": _NUMBER,
    "block_name_to_quantize": Nothing(),
    "cache_block_outputs": _NUMBER,
    "checkpoint_format": words("gptq gptq_v2 marlin"),
    "config_groups": Named(
        Matching(re.compile(r"group_\d{1,4}"), "group_ and a number"), _GROUP, 1_024
    ),
    "damp_auto_increment": _NUMBER,
    "damp_percent": _NUMBER,
    "desc_act": _NUMBER,
    "do_fuse": Nothing(),
    "dynamic": Nothing(),
    "exllama_config": Fields(
        {"max_batch_size": _NUMBER, "max_input_len": _NUMBER, "version": _NUMBER}
    ),
    "exclude_modules": _MODULES,
    "fmt": words("e4m3 e5m2 float8_e4m3fn"),
    "format": _FORMAT,
    "fuse_max_seq_len": _NUMBER,
    "global_compression_ratio": _NUMBER,
    "group_size": _NUMBER,
    "ignore": _MODULES,
    "ignored_layers": _MODULES,
    "is_marlin_format": _NUMBER,
    "kv_cache_quant_algo": _ALGORITHM,
    "kv_cache_scheme": _ARGUMENTS,
    "lm_head": _NUMBER,
    "max_input_length": _NUMBER,
    "model_file_base_name": words("model"),
    "model_seqlen": _NUMBER,
    "module_name_preceding_first_block": Nothing(),
    "modules_in_block_to_quantize": Nothing(),
    "modules_to_fuse": Nothing(),
    "modules_to_not_convert": _MODULES,
    "pack_dtype": words("int32"),
    "pad_token_id": _NUMBER,
    "q_group_size": _NUMBER,
    "quant_algo": _ALGORITHM,
    "quant_method": QUANT_METHODS,
    "quantization_status": words("compressed frozen initialized calibration"),
    "scale_fmt": words("ue8m0 float"),
    "sparsity_config": Nothing(),
    "static_groups": _NUMBER,
    "sym": _NUMBER,
    "transform_config": Nothing(),
    "true_sequential": _NUMBER,
    "use_cuda_fp16": _NUMBER,
    "use_exllama": _NUMBER,
    "version": Either((str,), _KERNELS, _NUMBER),
    "w_bit": _NUMBER,
    "weight_block_size": _NUMBER,
    "weight_per_tensor": _NUMBER,
    "zero_point": _NUMBER,
}
_PRODUCER: Final = Fields({"name": Words(frozenset({"modelopt"})), "version": VERSION})

#: ``quantization_config`` of ``config.json``, ``quantize_config.json`` and their like.
QUANTIZATION: Final = Fields(_SHAPES | {"producer": _PRODUCER})
#: ``hf_quant_config.json``.
MODELOPT_FILE: Final = Fields({"producer": _PRODUCER, "quantization": Fields(_SHAPES)})
