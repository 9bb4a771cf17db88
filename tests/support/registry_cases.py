"""Models and adapters that may be published, and those that may not: the same for every door.

A door is tested by publishing ``files`` of each case, and expecting ``says`` in its refusal.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Files = dict[str, bytes]

#: A base of two layers, small enough to be made in a millisecond.
HIDDEN, INTERMEDIATE, VOCABULARY, HEADS, KV_HEADS, LAYERS = 16, 32, 64, 4, 2, 2
KV_FEATURES = HIDDEN // HEADS * KV_HEADS
RANK = 4

BASE_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "max_position_embeddings": 2_048,
    "model_type": "llama",
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": KV_HEADS,
    "torch_dtype": "bfloat16",
    "vocab_size": VOCABULARY,
}
ADAPTER_CONFIG: dict[str, Any] = {
    "base_model_name_or_path": "acme/base",
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": RANK,
    "rank_pattern": {},
    "target_modules": ["q_proj", "v_proj"],
    "task_type": "CAUSAL_LM",
    "use_dora": False,
    "use_rslora": False,
}

Tensors = dict[str, tuple[tuple[int, ...], bytes]]


def safetensors_of(
    tensors: Mapping[str, tuple[tuple[int, ...], bytes]], dtype: str = "BF16"
) -> bytes:
    """Return a safetensors file of tensors with their shapes and bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, (shape, values) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [len(data), len(data) + len(values)],
        }
        data += values
    return with_header(header, bytes(data))


def with_header(header: object, data: bytes) -> bytes:
    """Return a file that begins with ``header`` as safetensors do."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def values(seed: str, shape: tuple[int, ...]) -> bytes:
    """Return bfloat16 values of a tensor, the same for a seed; none is zero."""
    draw = random.Random(seed)
    count = 1
    for size in shape:
        count *= size
    return b"".join(
        struct.pack("<f", draw.choice((-1, 1)) * draw.uniform(0.001, 0.1))[2:] for _ in range(count)
    )


def base_shapes(
    hidden: int = HIDDEN, intermediate: int = INTERMEDIATE, layers: int = LAYERS
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a small Llama's tensors."""
    kv = hidden // HEADS * KV_HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (VOCABULARY, hidden),
    }
    for layer in range(layers):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.self_attn.q_proj.weight": (hidden, hidden),
            f"{at}.self_attn.k_proj.weight": (kv, hidden),
            f"{at}.self_attn.v_proj.weight": (kv, hidden),
            f"{at}.self_attn.o_proj.weight": (hidden, hidden),
            f"{at}.mlp.gate_proj.weight": (intermediate, hidden),
            f"{at}.mlp.up_proj.weight": (intermediate, hidden),
            f"{at}.mlp.down_proj.weight": (hidden, intermediate),
            f"{at}.input_layernorm.weight": (hidden,),
            f"{at}.post_attention_layernorm.weight": (hidden,),
        }
    return shapes


def base_files(seed: str = "base", hidden: int = HIDDEN, **config: object) -> Files:
    """Return a servable small Llama; another seed is a fine-tune of the same shape."""
    shapes = base_shapes(hidden)
    tensors = {name: (shape, values(seed + name, shape)) for name, shape in shapes.items()}
    return {
        "config.json": json.dumps(BASE_CONFIG | {"hidden_size": hidden} | config).encode(),
        "tokenizer_config.json": b'{"model_max_length": 2048}',
        "model.safetensors": safetensors_of(tensors),
    }


def adapter_tensors(
    rank: int = RANK, hidden: int = HIDDEN, modules: tuple[str, ...] = ("q_proj", "v_proj")
) -> Tensors:
    """Return the tensors of a LoRA adapter for ``base_files(hidden=hidden)``."""
    shapes = base_shapes(hidden)
    found: Tensors = {}
    for layer in range(LAYERS):
        for module in modules:
            room = "self_attn" if module[0] in "qkvo" else "mlp"
            path = f"model.layers.{layer}.{room}.{module}"
            out_features, in_features = shapes[f"{path}.weight"]
            for side, shape in (("A", (rank, in_features)), ("B", (out_features, rank))):
                name = f"base_model.model.{path}.lora_{side}.weight"
                found[name] = (shape, values(name, shape))
    return found


def adapter_files(tensors: Tensors | None = None, **config: object) -> Files:
    """Return a servable adapter for ``base_files()``."""
    return {
        "adapter_config.json": json.dumps(ADAPTER_CONFIG | config).encode(),
        "adapter_model.safetensors": safetensors_of(
            adapter_tensors() if tensors is None else tensors
        ),
    }


class Case(NamedTuple):
    """Files that are refused, and what the refusal says."""

    name: str
    files: Callable[[], Files]
    says: str


def _model(**changes: bytes | None) -> Callable[[], Files]:
    return lambda: _changed(base_files(), changes)


def _adapter(**changes: bytes | None) -> Callable[[], Files]:
    return lambda: _changed(adapter_files(), changes)


def _changed(files: Files, changes: Mapping[str, bytes | None]) -> Files:
    """Return ``files`` with ``changes`` by path, ``__`` for ``.``; None drops a file."""
    for name, content in changes.items():
        path = name.replace("__", ".")
        if content is None:
            files.pop(path, None)
        else:
            files[path] = content
    return files


def _named(path: str, make: Callable[[], Files] = base_files) -> Callable[[], Files]:
    return lambda: make() | {path: b"x"}


def _config(**changes: object) -> Callable[[], Files]:
    return lambda: adapter_files(**changes)


def _weights(change: Callable[[Tensors], Tensors]) -> Callable[[], Files]:
    return lambda: adapter_files(change(adapter_tensors()))


def _lying() -> bytes:
    return with_header({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 64]}}, bytes(64))


def _overlapping() -> bytes:
    header = {
        "a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]},
        "b": {"dtype": "U8", "shape": [8], "data_offsets": [4, 12]},
    }
    return with_header(header, bytes(12))


def _truncated() -> bytes:
    return base_files()["model.safetensors"][:-100]


def _ending(tensor: tuple[tuple[int, ...], bytes], value: bytes) -> tuple[tuple[int, ...], bytes]:
    """Return a tensor with another last value."""
    return tensor[0], tensor[1][: -len(value)] + value


#: How a bomb and a pickle start; both are refused before anything is unpacked.
ZIP = b"PK\x03\x04" + bytes(60)
GZIP = b"\x1f\x8b\x08\x00" + bytes(60)
PICKLE = b"\x80\x04\x95" + bytes(60)

_FIRST_B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"

#: Of paths: whatever the object is.
PATH_CASES = (
    Case("a path with ..", _named("../config.json"), "is not allowed"),
    Case("an absolute path", _named("/etc/passwd.json"), "is not allowed"),
    Case("a name with NUL", _named("a\0b.json"), "is not allowed"),
    Case("a name of 300 characters", _named("a" * 295 + ".json"), "longer than 200 characters"),
    Case("a path of many folders", _named("a/b/c/d/e.json"), "is deeper than 4"),
    Case("pickled weights", _named("pytorch_model.bin"), "can hold code"),
    Case("code", _named("modeling_acme.py"), "can hold code"),
    Case("an archive", _named("weights.zip"), "is not a kind of file"),
)
MODEL_CASES = (
    *PATH_CASES,
    Case(
        "auto_map",
        lambda: base_files(auto_map={"AutoModel": "evil.Model"}),
        "asks for its own code to be run (auto_map)",
    ),
    Case("an unknown architecture", lambda: base_files(architectures=["Evil"]), "is not served"),
    Case("a lying header", _model(model__safetensors=_lying()), "has 64 bytes, its shape needs 16"),
    Case("overlapping tensors", _model(model__safetensors=_overlapping()), "starts at byte 4"),
    Case("a truncated file", _model(model__safetensors=_truncated()), "bytes of tensors"),
    Case("a zip bomb as weights", _model(model__safetensors=ZIP), "is not a safetensors file"),
    Case("compressed weights", _model(model__safetensors=GZIP), "is not a safetensors file"),
    Case("a pickle as weights", _model(model__safetensors=PICKLE), "is not a safetensors file"),
    Case("no weights", _model(model__safetensors=None), "no .safetensors file"),
    Case("no configuration", _model(config__json=None), "no config.json"),
    Case(
        "10,000 files",
        lambda: base_files() | {f"f{index}.txt": b"x" for index in range(10_000)},
        "are more than 1000",
    ),
)
#: Refused for the base that ``base_files()`` is.
ADAPTER_CASES = (
    Case(
        "pickled adapter weights",
        _named("adapter_model.bin", adapter_files),
        "can hold code",
    ),
    Case("a path with ..", _named("../x.json", adapter_files), "is not allowed"),
    Case(
        "a file that no adapter has",
        _named("model.safetensors", adapter_files),
        "is not a file that an adapter is served with",
    ),
    Case("no weights", _adapter(adapter_model__safetensors=None), "no adapter_model.safetensors"),
    Case("no configuration", _adapter(adapter_config__json=None), "no adapter_config.json"),
    Case("auto_map", _config(auto_map={"AutoModel": "evil.Model"}), "auto_map"),
    Case("another kind of adapter", _config(peft_type="IA3"), "peft_type 'IA3' is not served"),
    Case("DoRA", _config(use_dora=True), "DoRA is not served"),
    Case("whole modules", _config(modules_to_save=["lm_head"]), "replaces whole modules"),
    Case("biases", _config(bias="all"), "an adapter with biases"),
    Case("a rank above the limit", _config(r=65), "the rank 65 is more than 64"),
    Case(
        "a rank above the limit for one module",
        _config(rank_pattern={"q_proj": 128}),
        "the rank 128 is more than 64",
    ),
    Case("an unknown key", _config(engine_path="/etc"), "engine_path"),
    Case(
        "a regular expression of a module",
        _config(rank_pattern={"(a+)+$": 4}),
        "the name of a module",
    ),
    Case(
        "an adapter for another base",
        lambda: adapter_files(adapter_tensors(hidden=32)),
        "has the shape 4x32, the base needs 4x16",
    ),
    Case("a rank other than its tensors'", _config(r=8), "the base needs 8x16"),
    Case(
        "an unknown tensor",
        _weights(lambda all_: all_ | {"evil.weight": ((1,), values("e", (1,)))}),
        "'evil.weight' is not a tensor of a LoRA adapter",
    ),
    Case(
        "a module that the base has not",
        _weights(
            lambda all_: (
                all_
                | {
                    name.replace("layers.0", "layers.9"): tensor
                    for name, tensor in all_.items()
                    if "layers.0.self_attn.q_proj" in name
                }
            )
        ),
        "model.layers.9.self_attn.q_proj is no module of the base",
    ),
    Case(
        "half of a pair",
        _weights(lambda all_: {name: one for name, one in all_.items() if name != _FIRST_B}),
        "q_proj.lora_B is missing",
    ),
    Case(
        "a module outside target_modules",
        _config(target_modules=["q_proj"]),
        "v_proj is not among the target_modules",
    ),
    Case(
        "tensors that are all zero",
        _weights(lambda all_: {name: (one[0], bytes(len(one[1]))) for name, one in all_.items()}),
        "are all zero",
    ),
    Case(
        "tensors that are zero on one side",
        _weights(
            lambda all_: {
                name: (one[0], bytes(len(one[1])) if "lora_B" in name else one[1])
                for name, one in all_.items()
            }
        ),
        "are zero on one side of every module",
    ),
    Case(
        "NaN",
        _weights(lambda all_: all_ | {_FIRST_B: _ending(all_[_FIRST_B], b"\xc0\x7f")}),
        "1 of the 8 tensors of the adapter hold values that are not finite",
    ),
    Case(
        "an infinity",
        _weights(lambda all_: all_ | {_FIRST_B: _ending(all_[_FIRST_B], b"\x80\xff")}),
        "q_proj.lora_B.weight",
    ),
    Case(
        "a lying header",
        _adapter(adapter_model__safetensors=_lying()),
        "has 64 bytes, its shape needs 16",
    ),
    Case(
        "overlapping tensors",
        _adapter(adapter_model__safetensors=_overlapping()),
        "starts at byte 4",
    ),
    Case("a zip as weights", _adapter(adapter_model__safetensors=ZIP), "is not a safetensors file"),
    Case(
        "10,000 files",
        lambda: adapter_files() | {f"f{index}.txt": b"x" for index in range(10_000)},
        "are more than 1000",
    ),
)
