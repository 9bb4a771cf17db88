"""Configurations in the shape of published models' own: their keys, and values of their kind."""

from __future__ import annotations

from typing import Any

SIZES = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.44.0",
    "use_cache": True,
    "vocab_size": 32000,
}


def _config(architecture: str, model_type: str, **more: Any) -> dict[str, Any]:
    return {"architectures": [architecture], "model_type": model_type, **SIZES, **more}


LONGROPE = {
    "long_factor": [1.0800000429153442] * 48,
    "short_factor": [1.0] * 48,
    "type": "longrope",
}
PHI_3_5 = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "embd_pdrop": 0.0,
    "eos_token_id": 32000,
    "original_max_position_embeddings": 4096,
    "pad_token_id": 32000,
    "resid_pdrop": 0.0,
    "rope_scaling": LONGROPE,
    "rope_theta": 10000.0,
    "sliding_window": 262144,
}
LLAMA_3_ROPE = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
QWEN_2 = {
    "attention_dropout": 0.0,
    "max_window_layers": 28,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "use_mrope": False,
    "use_sliding_window": False,
}
WEIGHTS_8 = {
    "actorder": None,
    "block_structure": None,
    "dynamic": False,
    "group_size": None,
    "num_bits": 8,
    "observer": "minmax",
    "observer_kwargs": {},
    "strategy": "channel",
    "symmetric": True,
    "type": "float",
}
COMPRESSED = {
    "config_groups": {
        "group_0": {
            "input_activations": WEIGHTS_8 | {"dynamic": True, "strategy": "token"},
            "output_activations": None,
            "targets": ["Linear"],
            "weights": WEIGHTS_8,
        }
    },
    "format": "float-quantized",
    "global_compression_ratio": 1.5,
    "ignore": ["lm_head", "re:.*mlp.gate$"],
    "kv_cache_scheme": None,
    "quant_method": "compressed-tensors",
    "quantization_status": "frozen",
}
GPTQ = {
    "bits": 4,
    "checkpoint_format": "gptq",
    "damp_percent": 0.01,
    "desc_act": True,
    "group_size": 128,
    "model_file_base_name": "model",
    "modules_in_block_to_quantize": None,
    "quant_method": "gptq",
    "static_groups": False,
    "sym": True,
    "true_sequential": True,
}
AWQ = {
    "bits": 4,
    "group_size": 128,
    "modules_to_not_convert": None,
    "quant_method": "awq",
    "version": "gemm",
    "zero_point": True,
}
FP8 = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "quant_method": "fp8",
    "weight_block_size": [128, 128],
}

#: Name of a published model -> its ``config.json`` in shape.
CONFIGS: dict[str, dict[str, Any]] = {
    "Llama 2 7B": _config(
        "LlamaForCausalLM", "llama", pretraining_tp=1, rope_scaling=None, max_length=4096
    ),
    "Llama 3.2 1B": _config(
        "LlamaForCausalLM",
        "llama",
        attention_bias=False,
        attention_dropout=0.0,
        eos_token_id=[128001, 128008, 128009],
        head_dim=64,
        mlp_bias=False,
        pretraining_tp=1,
        rope_scaling=LLAMA_3_ROPE,
        rope_theta=500000.0,
    ),
    "SmolLM2 135M": _config(
        "LlamaForCausalLM",
        "llama",
        is_llama_config=True,
        pad_token_id=2,
        rope_interleaved=False,
        rope_scaling=None,
        rope_theta=100000,
    ),
    "Mistral 7B v0.3": _config(
        "MistralForCausalLM",
        "mistral",
        attention_dropout=0.0,
        rope_theta=1000000.0,
        sliding_window=None,
    ),
    "Mistral Nemo": _config("MistralForCausalLM", "mistral", head_dim=128, sliding_window=None),
    "Mixtral 8x7B": _config(
        "MixtralForCausalLM",
        "mixtral",
        num_experts_per_tok=2,
        num_local_experts=8,
        output_router_logits=False,
        router_aux_loss_coef=0.02,
    ),
    "Qwen2 7B": _config("Qwen2ForCausalLM", "qwen2", **QWEN_2),
    "Qwen2.5 Coder with YaRN": _config(
        "Qwen2ForCausalLM",
        "qwen2",
        **QWEN_2,
        rope_scaling={
            "factor": 4.0,
            "original_max_position_embeddings": 32768,
            "type": "yarn",
        },
    ),
    "Qwen3 0.6B": _config(
        "Qwen3ForCausalLM",
        "qwen3",
        attention_bias=False,
        head_dim=128,
        max_window_layers=28,
        rope_scaling=None,
        rope_theta=1000000,
        sliding_window=None,
        use_sliding_window=False,
    ),
    "Qwen3 30B A3B": _config(
        "Qwen3MoeForCausalLM",
        "qwen3_moe",
        decoder_sparse_step=1,
        head_dim=128,
        max_window_layers=48,
        mlp_only_layers=[],
        moe_intermediate_size=768,
        norm_topk_prob=True,
        num_experts=128,
        num_experts_per_tok=8,
        output_router_logits=False,
        router_aux_loss_coef=0.001,
        sliding_window=None,
        use_sliding_window=False,
    ),
    "Phi-2": {
        key: value
        for key, value in _config(
            "PhiForCausalLM",
            "phi",
            attention_dropout=0.0,
            embd_pdrop=0.0,
            hidden_act="gelu_new",
            layer_norm_eps=1e-05,
            partial_rotary_factor=0.4,
            qk_layernorm=False,
            resid_pdrop=0.1,
            rope_scaling=None,
            rope_theta=10000.0,
        ).items()
        if key != "rms_norm_eps"
    },
    "Phi-3.5 mini": _config("Phi3ForCausalLM", "phi3", **PHI_3_5),
    "Phi-4 mini": _config(
        "Phi3ForCausalLM",
        "phi3",
        **PHI_3_5,
        full_attn_mod=1,
        interpolate_factor=1,
        lm_head_bias=False,
        mlp_bias=False,
        partial_rotary_factor=0.75,
    ),
    "as transformers 5 writes it": {
        key: value
        for key, value in _config(
            "LlamaForCausalLM",
            "llama",
            attention_bias=False,
            dtype="bfloat16",
            head_dim=64,
            layer_types=["full_attention"] * 32,
            rope_parameters={"rope_theta": 100000.0, "rope_type": "default"},
        ).items()
        if key != "torch_dtype"
    },
    "GPTQ": _config("LlamaForCausalLM", "llama", quantization_config=GPTQ),
    "AWQ": _config("Qwen2ForCausalLM", "qwen2", **QWEN_2, quantization_config=AWQ),
    "FP8": _config("Qwen3ForCausalLM", "qwen3", quantization_config=FP8),
    "compressed tensors": _config("LlamaForCausalLM", "llama", quantization_config=COMPRESSED),
}


def _token(text: str) -> dict[str, Any]:
    return {
        "content": text,
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": True,
    }


#: ``tokenizer_config.json`` of published models, in shape.
TOKENIZER_CONFIGS: dict[str, dict[str, Any]] = {
    "Llama 2": {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": _token("<s>") | {"__type": "AddedToken"},
        "clean_up_tokenization_spaces": False,
        "eos_token": _token("</s>"),
        "legacy": False,
        "model_max_length": 1e30,
        "pad_token": None,
        "padding_side": "right",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    },
    "Llama 3.2": {
        "added_tokens_decoder": {"128000": _token("<|begin_of_text|>")},
        "bos_token": "<|begin_of_text|>",
        "chat_template": "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "clean_up_tokenization_spaces": True,
        "eos_token": "<|eot_id|>",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 131072,
        "tokenizer_class": "PreTrainedTokenizerFast",
    },
    "Qwen2.5": {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {"151644": _token("<|im_start|>")},
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    },
    "SmolLM2": {
        "bos_token": "<|im_start|>",
        "model_max_length": 8192,
        "tokenizer_class": "GPT2Tokenizer",
        "vocab_size": 49152,
    },
    "as transformers 5 writes it": {
        "backend": "tokenizers",
        "bos_token": "<|im_start|>",
        "errors": "replace",
        "model_max_length": 8192,
        "pad_token": "<|im_end|>",
        "tokenizer_class": "TokenizersBackend",
        "unk_token": "<|endoftext|>",
    },
    "several templates": {
        "chat_template": [
            {"name": "default", "template": "{{ messages[0].content }}"},
            {"name": "tool_use", "template": "{{ messages[0].content }}"},
        ],
        "tokenizer_class": "LlamaTokenizerFast",
    },
}
