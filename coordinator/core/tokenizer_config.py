"""What the JSON files of a tokenizer may say: tokens, templates, stages of ``tokenizer.json``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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

MAX_TEMPLATE_CHARS: Final = 256 * 1024
MAX_TEMPLATES: Final = 32
MAX_VOCABULARY: Final = 4_194_304
MAX_ADDED_TOKENS: Final = 65_536
#: Longest pattern of ``tokenizer.json``, and most stages of one kind.
MAX_PATTERN_CHARS: Final = 4_096
MAX_STAGES: Final = 64
MAX_STAGE_DEPTH: Final = 8

_NUMBER: Final = Numbers()
_ADDED_TOKEN: Final = Fields(
    {
        "__type": words("AddedToken"),
        "content": Text(512),
        **each("id lstrip normalized rstrip single_word special", _NUMBER),
    }
)
_TOKEN: Final = Either((str,), Text(512), _ADDED_TOKEN)
_TOKENS: Final = Either(
    (list,),
    Many(_TOKEN, MAX_ADDED_TOKENS),
    Named(Matching(re.compile(r"\w{1,64}", re.ASCII), "a word"), _TOKEN),
)
_TOKEN_ID: Final = Matching(re.compile(r"\d{1,9}", re.ASCII), "the number of a token")
_TEMPLATE_NAME: Final = Matching(re.compile(r"[\w-]{1,64}", re.ASCII), "a word")
_TEMPLATE: Final = Either(
    (str,),
    Text(MAX_TEMPLATE_CHARS),
    Many(Fields({"name": _TEMPLATE_NAME, "template": Text(MAX_TEMPLATE_CHARS)}), MAX_TEMPLATES),
)
_SPECIAL: Final[dict[str, Shape]] = {
    **each("bos_token cls_token eos_token mask_token pad_token sep_token unk_token", _TOKEN),
    "additional_special_tokens": _TOKENS,
    "extra_special_tokens": _TOKENS,
    "model_specific_special_tokens": _TOKENS,
}

#: ``special_tokens_map.json``.
SPECIAL_TOKENS: Final = Fields(_SPECIAL)
#: ``chat_template.json``.
CHAT_TEMPLATE: Final = Fields({"chat_template": _TEMPLATE})
#: ``added_tokens.json`` and ``vocab.json``.
ADDED_TOKENS: Final = Named(Text(512), Numbers(1), MAX_ADDED_TOKENS)
VOCABULARY: Final = Named(Text(4_096), Numbers(1), MAX_VOCABULARY)
#: ``tokenizer_config.json``. ``sp_model_kwargs`` would be handed to a constructor that opens files.
TOKENIZER: Final = Fields(
    _SPECIAL
    | {
        **each(
            "add_bos_token add_eos_token add_prefix_space clean_up_tokenization_spaces "
            "do_lower_case fix_mistral_regex from_slow legacy max_len max_length "
            "model_max_length pad_to_multiple_of pad_token_id pad_token_type_id pad_type_id "
            "spaces_between_special_tokens split_special_tokens stride trim_offsets truncation "
            "use_default_system_prompt use_fast vocab_size",
            _NUMBER,
        ),
        **each("auto_map device_map processor_class sp_model_kwargs trust_remote_code", Nothing()),
        "added_tokens_decoder": Named(_TOKEN_ID, _ADDED_TOKEN, MAX_ADDED_TOKENS),
        "backend": words("tokenizers"),
        "chat_template": _TEMPLATE,
        "errors": words("replace strict ignore"),
        "model_input_names": Many(words("input_ids attention_mask token_type_ids"), 8),
        "padding": words("longest max_length do_not_pad"),
        "padding_side": words("left right"),
        "tokenizer_class": words(
            "CodeGenTokenizer CodeGenTokenizerFast GPT2Tokenizer GPT2TokenizerFast LlamaTokenizer "
            "LlamaTokenizerFast PreTrainedTokenizer PreTrainedTokenizerFast Qwen2Tokenizer "
            "Qwen2TokenizerFast TokenizersBackend"
        ),
        "truncation_side": words("left right"),
        "truncation_strategy": words("longest_first only_first only_second do_not_truncate"),
        "model_type": words("llama mistral qwen2 qwen3 phi phi3"),
    }
)

_STAGES: Final = {
    "normalizer": "NFC NFD NFKC NFKD Lowercase Nmt Precompiled Prepend Replace Sequence Strip "
    "StripAccents BertNormalizer ByteLevel",
    "pre_tokenizer": "ByteLevel BertPreTokenizer CharDelimiterSplit Delimiter Digits Metaspace "
    "Punctuation Sequence Split UnicodeScripts Whitespace WhitespaceSplit",
    "post_processor": "BertProcessing ByteLevel RobertaProcessing Sequence TemplateProcessing",
    "decoder": "BPEDecoder ByteFallback ByteLevel Fuse Metaspace Replace Sequence Strip WordPiece",
    "model": "BPE Unigram WordLevel WordPiece",
}
_TOP: Final = frozenset({"version", "truncation", "padding", "added_tokens", *_STAGES})


def check_tokenizer(tokenizer: Mapping[str, object]) -> list[str]:
    """Return the regular expressions of a ``tokenizer.json`` of known stages.

    Raises: InvalidRequest.
    """
    for key in tokenizer:
        if key not in _TOP:
            raise InvalidRequest(
                f"tokenizer.json: {key[:60]!a} is not a part of a tokenizer",
                "save it again with the tokenizers library",
            )
    added = Many(_ADDED_TOKEN, MAX_ADDED_TOKENS)
    check_shape(added, tokenizer.get("added_tokens"), "tokenizer.json: added_tokens")
    patterns: list[str] = []
    for part, known in _STAGES.items():
        stages = list(_stages(tokenizer.get(part), f"tokenizer.json: {part}", 0))
        if len(stages) > MAX_STAGES:
            raise InvalidRequest(f"tokenizer.json: {part} has more than {MAX_STAGES} stages")
        for stage in stages:
            if stage.get("type", "BPE" if part == "model" else None) not in known.split():
                raise InvalidRequest(
                    f"tokenizer.json: {part} has a stage {str(stage.get('type'))[:60]!a}",
                    f"known are {known}",
                )
            patterns += _patterns(stage, part)
    return patterns


def _stages(value: object, at: str, depth: int) -> Iterator[Mapping[str, object]]:
    """Yield the stages of one part of a tokenizer, those of sequences in their place."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{at} is not an object")
    if depth > MAX_STAGE_DEPTH:
        raise InvalidRequest(f"{at} is nested deeper than {MAX_STAGE_DEPTH}")
    yield value
    for key in ("normalizers", "pretokenizers", "processors", "decoders"):
        inner = value.get(key)
        if isinstance(inner, list):
            for stage in inner[: MAX_STAGES + 1]:
                yield from _stages(stage, at, depth + 1)


def _patterns(stage: Mapping[str, object], part: str) -> list[str]:
    pattern = stage.get("pattern")
    if not isinstance(pattern, Mapping):
        return []
    text = pattern.get("Regex")
    if text is None:
        return []
    if not isinstance(text, str) or len(text) > MAX_PATTERN_CHARS:
        raise InvalidRequest(
            f"tokenizer.json: a pattern of {part} has more than {MAX_PATTERN_CHARS} characters"
        )
    return [text]


def templates_of(value: object) -> list[str]:
    """Return the templates that a checked ``chat_template`` holds."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [str(one.get("template") or "") for one in value if isinstance(one, Mapping)]
    return []
