"""What the files of an embedding model may say; the sentence-transformers library writes them."""

from __future__ import annotations

import re
from typing import Final

from coordinator.core.json_shape import (
    VERSION,
    Fields,
    Many,
    Matching,
    Named,
    Nothing,
    Numbers,
    Text,
    each,
    words,
)

_NUMBER: Final = Numbers()
_MODULE_TYPE: Final = words(
    " ".join(
        f"sentence_transformers.{room}{name}"
        for room in ("models.", "base.modules.transformer.", "sentence_transformer.modules.")
        for name in ("Transformer", "Pooling", "Normalize")
    )
)

#: ``modules.json``: classes and folders, both from short lists.
MODULES: Final = Many(
    Fields(
        {
            "idx": _NUMBER,
            "kwargs": Nothing(),
            "name": Matching(re.compile(r"\d{1,2}", re.ASCII), "a number"),
            "path": Matching(
                re.compile(r"|1_Pooling|2_Normalize"), "empty, 1_Pooling or 2_Normalize"
            ),
            "type": _MODULE_TYPE,
        }
    ),
    8,
)
#: ``1_Pooling/config.json``.
POOLING: Final = Fields(
    each(
        "embedding_dimension include_prompt pooling_mode_cls_token pooling_mode_lasttoken "
        "pooling_mode_max_tokens pooling_mode_mean_sqrt_len_tokens pooling_mode_mean_tokens "
        "pooling_mode_weightedmean_tokens word_embedding_dimension",
        _NUMBER,
    )
    | {"pooling_mode": words("cls lasttoken max mean mean_sqrt_len_tokens weightedmean")}
)
#: ``sentence_bert_config.json``.
SENTENCE: Final = Fields({"do_lower_case": _NUMBER, "max_seq_length": _NUMBER})
#: ``config_sentence_transformers.json``.
SENTENCE_TRANSFORMERS: Final = Fields(
    {
        "__version__": Fields(each("pytorch sentence_transformers transformers", VERSION)),
        "default_prompt_name": Text(100),
        "model_type": words("SentenceTransformer"),
        "prompts": Named(Text(100), Text(10_000), 100),
        "similarity_fn_name": words("cosine dot euclidean manhattan"),
    }
)
