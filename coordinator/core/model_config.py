"""What ``config.json`` and ``generation_config.json`` may say, by family.

Keys by allowlist, those of transformers' configuration classes and of real exports. What may not be
there: a path, an address, a repository or a class, at any depth, since vLLM loads what they name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from coordinator.core.json_shape import (
    VERSION,
    Either,
    Fields,
    Many,
    Named,
    Nothing,
    Numbers,
    Shape,
    Text,
    check_shape,
    each,
    words,
)
from coordinator.core.quantization_config import QUANTIZATION
from protos.domain.errors import InvalidRequest
from protos.domain.manifest import FAMILY_OF_ARCHITECTURE, ModelConfig, check_model_config

#: Architecture -> the ``model_type`` by which transformers chooses the class of the configuration.
MODEL_TYPE_OF_ARCHITECTURE: Final = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mixtral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen2MoeForCausalLM": "qwen2_moe",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3_moe",
    "PhiForCausalLM": "phi",
    "Phi3ForCausalLM": "phi3",
    "PhiMoEForCausalLM": "phimoe",
}

_NUMBER: Final = Numbers()
_DTYPE: Final = words("bfloat16 float16 float32 auto")
#: A name with a slash would be a repository of kernels, which transformers fetches and runs.
_ATTENTION: Final = words("eager sdpa flash_attention_2 flash_attention_3 flex_attention")
_LABELS: Final = Named(Text(100), Either((str,), Text(100), _NUMBER))

_ROPE: Final = Fields(
    each(
        "alpha attention_factor beta_fast beta_slow factor finetuned high_freq_factor "
        "long_factor long_mscale low_freq_factor mscale mscale_all_dim "
        "original_max_position_embeddings partial_rotary_factor rope_theta short_factor "
        "short_mscale truncate",
        _NUMBER,
    )
    | each("rope_type type", words("default linear dynamic yarn longrope su llama3 none"))
)

#: Keys of every family. The sizes are bounded, since an engine allocates by them.
_COMMON: Final[dict[str, Shape]] = {
    **each(
        "_attn_implementation_autoset _flash_attn_2_enabled add_cross_attention attention_bias "
        "attention_dropout begin_suppress_tokens bos_token_id chunk_size_feed_forward "
        "cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample "
        "early_stopping embd_pdrop encoder_no_repeat_ngram_size eos_token_id "
        "forced_bos_token_id forced_eos_token_id hidden_dropout initializer_range is_decoder "
        "is_encoder_decoder is_llama_config layer_norm_eps length_penalty max_length "
        "max_position_embeddings min_length mlp_bias no_repeat_ngram_size num_beam_groups "
        "num_beams num_return_sequences original_max_position_embeddings output_attentions "
        "output_hidden_states output_scores pad_token_id partial_rotary_factor pretraining_tp "
        "remove_invalid_values repetition_penalty resid_pdrop return_dict "
        "return_dict_in_generate rms_norm_eps rope_interleaved rope_theta sep_token_id "
        "sliding_window suppress_tokens temperature tf_legacy_loss tie_encoder_decoder "
        "tie_word_embeddings top_k top_p torchscript typical_p unk_token_id unsloth_fixed "
        "use_bfloat16 use_cache",
        _NUMBER,
    ),
    **each(
        "bad_words_ids exponential_decay_length_penalty finetuning_task prefix problem_type "
        "pruned_heads task_specific_params",
        Nothing(),
    ),
    "architectures": Many(words(" ".join(FAMILY_OF_ARCHITECTURE)), 1),
    "attn_implementation": _ATTENTION,
    "_attn_implementation": _ATTENTION,
    "auto_map": Nothing(),
    "dtype": _DTYPE,
    "head_dim": Numbers(1, 8_192),
    "hidden_act": words("silu gelu gelu_new gelu_fast gelu_pytorch_tanh quick_gelu relu"),
    "hidden_size": Numbers(1, 131_072),
    "id2label": _LABELS,
    "intermediate_size": Numbers(1, 1_048_576),
    "label2id": _LABELS,
    "layer_types": Many(words("full_attention sliding_attention"), 1_024),
    "model_type": words(" ".join(MODEL_TYPE_OF_ARCHITECTURE.values())),
    "num_attention_heads": Numbers(1, 4_096),
    "num_hidden_layers": Numbers(1, 1_024),
    "num_key_value_heads": Numbers(1, 4_096),
    "quantization_config": QUANTIZATION,
    "rope_parameters": _ROPE,
    "rope_scaling": _ROPE,
    "tokenizer_class": words("LlamaTokenizer LlamaTokenizerFast Qwen2Tokenizer GPT2Tokenizer"),
    "torch_dtype": _DTYPE,
    "transformers_version": VERSION,
    "trust_remote_code": Nothing(),
    "unsloth_version": VERSION,
    "vocab_size": Numbers(1, 4_194_304),
}
_EXPERTS: Final[dict[str, Shape]] = {
    **each(
        "decoder_sparse_step input_jitter_noise mlp_only_layers norm_topk_prob "
        "num_experts_per_tok output_router_logits router_aux_loss_coef router_jitter_noise",
        _NUMBER,
    ),
    "moe_intermediate_size": Numbers(1, 1_048_576),
    "num_experts": Numbers(1, 4_096),
    "num_local_experts": Numbers(1, 4_096),
    "shared_expert_intermediate_size": Numbers(1, 1_048_576),
}
_QWEN: Final = each("max_window_layers qk_norm qkv_bias use_mrope use_sliding_window", _NUMBER)
_PHI: Final = each("full_attn_mod interpolate_factor lm_head_bias qk_layernorm", _NUMBER)

_SHAPE_OF_FAMILY: Final = {
    "llama": Fields(_COMMON),
    "mistral": Fields(_COMMON | _EXPERTS),
    "qwen": Fields(_COMMON | _EXPERTS | _QWEN),
    "phi": Fields(_COMMON | _EXPERTS | _PHI),
}

#: ``generation_config.json``. What names another model (``assistant_*`` apart) has no key here.
GENERATION: Final = Fields(
    {
        **each(
            "_from_model_config assistant_confidence_threshold assistant_early_exit "
            "assistant_ensemble_weight assistant_lookbehind begin_suppress_tokens bos_token_id "
            "decoder_start_token_id disable_compile diversity_penalty do_sample early_stopping "
            "encoder_no_repeat_ngram_size encoder_repetition_penalty eos_token_id "
            "epsilon_cutoff eta_cutoff forced_bos_token_id forced_eos_token_id guidance_scale "
            "is_assistant length_penalty low_memory max_cache_len max_length "
            "max_matching_ngram_size max_new_tokens max_time max_window_size min_length "
            "min_new_tokens min_p no_repeat_ngram_size num_assistant_tokens num_beam_groups "
            "num_beams num_return_sequences output_attentions output_hidden_states "
            "output_logits output_scores pad_token_id penalty_alpha prefill_chunk_size "
            "prompt_lookup_num_tokens remove_invalid_values renormalize_logits "
            "repetition_penalty return_dict_in_generate suppress_tokens target_lookbehind "
            "temperature token_healing top_h top_k top_p typical_p use_cache use_mtp",
            _NUMBER,
        ),
        **each(
            "bad_words_ids cache_config compile_config constraints continuous_batching_config "
            "dola_layers exponential_decay_length_penalty force_words_ids sequence_bias "
            "speculation_type trust_remote_code watermarking_config",
            Nothing(),
        ),
        "cache_implementation": words("static dynamic hybrid sliding_window quantized"),
        "num_assistant_tokens_schedule": words("constant heuristic heuristic_transient"),
        "stop_strings": Either((str,), Text(200), Many(Text(200), 64)),
        "transformers_version": VERSION,
    }
)


def check_config(config: Mapping[str, object]) -> ModelConfig:
    """Return what the fleet uses of a servable ``config.json``. Raises: InvalidRequest."""
    checked = check_model_config(config)
    architectures = config["architectures"]
    assert isinstance(architectures, list)
    wanted = MODEL_TYPE_OF_ARCHITECTURE[str(architectures[0])]
    if config.get("model_type") != wanted:
        raise InvalidRequest(
            f"config.json: model_type is {str(config.get('model_type'))[:40]!a}, "
            f"{architectures[0]} has {wanted}",
            "import the config.json of the model itself",
        )
    check_shape(_SHAPE_OF_FAMILY[checked.family], config, "config.json")
    return checked
