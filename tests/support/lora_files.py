"""Tiny bases, LoRA adapters for them in PEFT's format, and adapters that must be refused.

``adapter_for`` makes one with an effect for a real base, such as the small model.
"""

from __future__ import annotations

import json
import pickle
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from coordinator.devfleet.demo_weights import (
    ATTENTION,
    AdapterRecipe,
    bytes_of,
    write_adapter,
)
from coordinator.devfleet.safetensors_file import Tensor, header_of, read_tensors

Files = dict[str, bytes]

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, LAYERS, VOCABULARY = 16, 32, 2, 1, 2, 64
EVERY_PROJECTION = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
RANK = 4


def adapter_for(base: Path, target: Path, seed: int = 1, **recipe: object) -> Path:
    """Write an adapter that changes the greedy answers of ``base``; ``recipe`` as AdapterRecipe."""
    write_adapter(base, target, AdapterRecipe(seed=seed, **recipe))
    return target


def base_tensors(hidden: int = HIDDEN, layers: int = LAYERS, dtype: str = "BF16") -> list[Tensor]:
    """Return the tensors of a small Llama whose embedding is its output too."""
    head = hidden // HEADS
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, hidden)}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.input_layernorm.weight": (hidden,),
            f"{at}.mlp.down_proj.weight": (hidden, INTERMEDIATE),
            f"{at}.mlp.gate_proj.weight": (INTERMEDIATE, hidden),
            f"{at}.mlp.up_proj.weight": (INTERMEDIATE, hidden),
            f"{at}.post_attention_layernorm.weight": (hidden,),
            f"{at}.self_attn.k_proj.weight": (KV_HEADS * head, hidden),
            f"{at}.self_attn.o_proj.weight": (hidden, hidden),
            f"{at}.self_attn.q_proj.weight": (hidden, hidden),
            f"{at}.self_attn.v_proj.weight": (KV_HEADS * head, hidden),
        }
    shapes["model.norm.weight"] = (hidden,)
    return [Tensor(name, dtype, shape) for name, shape in shapes.items()]


def base_files(
    seed: int = 0, *, hidden: int = HIDDEN, layers: int = LAYERS, dtype: str = "BF16"
) -> Files:
    """Return a servable tiny Llama; another ``seed`` is a fine-tune of the same shape."""
    rng = random.Random(seed)
    tensors = base_tensors(hidden, layers, dtype)
    data = b"".join(
        bytes_of([rng.gauss(0.0, 0.02) for _ in range(tensor.size_bytes // _width(dtype))], dtype)
        for tensor in tensors
    )
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": 2_048,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": layers,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "vocab_size": VOCABULARY,
    }
    return {
        "config.json": json.dumps(config).encode(),
        "tokenizer_config.json": b'{"model_max_length": 2048}',
        "model.safetensors": header_of(tensors) + data,
    }


def _width(dtype: str) -> int:
    return 4 if dtype == "F32" else 2


def adapter_files(
    base: Mapping[str, bytes] | None = None, *, config: Mapping[str, object] = {}, **recipe: object
) -> Files:
    """Return a good adapter for ``base`` (the default tiny one); ``config`` changes its keys."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, target = Path(scratch) / "base", Path(scratch) / "adapter"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes((base or base_files())["model.safetensors"])
        write_adapter(folder, target, AdapterRecipe(**({"rank": RANK} | recipe)))
        files = {path.name: path.read_bytes() for path in target.iterdir()}
    files[CONFIG] = json.dumps(json.loads(files[CONFIG]) | dict(config)).encode()
    return files


def tensors_in(files: Mapping[str, bytes]) -> dict[str, tuple[Tensor, bytes]]:
    """Return the tensors of an adapter with their bytes."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(files[WEIGHTS])
        file.flush()
        found = read_tensors(Path(file.name))
    at = {one.name: (one, one.offset_bytes, one.offset_bytes + one.size_bytes) for one in found}
    return {name: (one, files[WEIGHTS][first:end]) for name, (one, first, end) in at.items()}


def with_tensors(files: Mapping[str, bytes], tensors: Mapping[str, tuple[Tensor, bytes]]) -> Files:
    """Return ``files`` with other tensors."""
    header = header_of([tensor for tensor, _ in tensors.values()])
    return dict(files) | {WEIGHTS: header + b"".join(data for _, data in tensors.values())}


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write ``files`` into the new folder ``folder``."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def _renamed(old: str, new: str) -> Files:
    """Return a good adapter with ``old`` replaced in every tensor's name."""
    files = adapter_files()
    renamed = {
        name.replace(old, new): (Tensor(name.replace(old, new), one.dtype, one.shape), data)
        for name, (one, data) in tensors_in(files).items()
    }
    return with_tensors(files, renamed)


def _refilled(fill: Callable[[str, bytes], bytes]) -> Files:
    files = adapter_files()
    changed = {name: (one, fill(name, data)) for name, (one, data) in tensors_in(files).items()}
    return with_tensors(files, changed)


def _with_a_value(value: float) -> Files:
    """Return a good adapter with another value at the start of its last tensor."""
    files = adapter_files()
    tensors = tensors_in(files)
    name, (one, data) = max(tensors.items())
    changed = bytes_of([value], one.dtype)
    return with_tensors(files, tensors | {name: (one, changed + data[len(changed) :])})


def _without(ending: str) -> Files:
    files = adapter_files()
    kept = {name: one for name, one in tensors_in(files).items() if not name.endswith(ending)}
    return with_tensors(files, kept)


def _plus(name: str, shape: tuple[int, ...], dtype: str = "F32") -> Files:
    files = adapter_files()
    extra = Tensor(name, dtype, shape)
    added = {name: (extra, b"\x01" * extra.size_bytes)}
    return with_tensors(files, tensors_in(files) | added)


def _header(change: Callable[[dict], None]) -> Files:
    """Return a good adapter whose header was changed and whose data was not."""
    files = adapter_files()
    length = int.from_bytes(files[WEIGHTS][:8], "little")
    header = json.loads(files[WEIGHTS][8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    data = files[WEIGHTS][8 + length :]
    return files | {WEIGHTS: len(text).to_bytes(8, "little") + text + data}


def _overlap(header: dict) -> None:
    first, second = [name for name in header if name != "__metadata__"][:2]
    size = header[second]["data_offsets"][1] - header[second]["data_offsets"][0]
    start = header[first]["data_offsets"][0]
    header[second]["data_offsets"] = [start, start + size]


def _past_the_end(header: dict) -> None:
    last = list(header)[-1]
    header[last]["data_offsets"][1] += 1 << 40


def _other_shape(header: dict) -> None:
    one = next(value for name, value in header.items() if name != "__metadata__")
    one["shape"] = [1_000_000, 1_000_000]


def _cut(files: Files, by: int = 100) -> Files:
    return files | {WEIGHTS: files[WEIGHTS][:-by]}


class _Payload:
    """Harmless, and would run something where it is unpickled."""

    def __reduce__(self):
        return (print, ("unpickled",))


#: Adapters that must be refused, by what is wrong with them. Each is otherwise a good one.
BAD_ADAPTERS: dict[str, Callable[[], Files]] = {
    "no config": lambda: {WEIGHTS: adapter_files()[WEIGHTS]},
    "no weights": lambda: {CONFIG: adapter_files()[CONFIG]},
    "config is no object": lambda: adapter_files() | {CONFIG: b"[]"},
    "config is no json": lambda: adapter_files() | {CONFIG: b'{"r": '},
    "another kind than lora": lambda: adapter_files(config={"peft_type": "IA3"}),
    "auto_map": lambda: adapter_files(config={"auto_map": {"AutoModel": "evil.Model"}}),
    "values that are no numbers": lambda: _refilled(lambda _, data: data[:-4] + b"\xff" * 4),
    "infinite values": lambda: _refilled(lambda _, data: data[:-4] + b"\0\0\x80\x7f"),
    "dora": lambda: adapter_files(config={"use_dora": True}),
    "trained biases": lambda: adapter_files(config={"bias": "all"}),
    "modules to save": lambda: adapter_files(config={"modules_to_save": ["lm_head"]}),
    "rank of the config is another": lambda: adapter_files(config={"r": 2 * RANK}),
    "rank is no number": lambda: adapter_files(config={"r": "4"}),
    "rank is zero": lambda: adapter_files(config={"r": 0}),
    "alpha is not finite": lambda: adapter_files(config={"lora_alpha": float("inf")}),
    "rank above any limit": lambda: adapter_files(rank=1_024),
    "tensors of modules that are not targets": lambda: adapter_files(
        config={"target_modules": ["q_proj"]}
    ),
    "another base": lambda: adapter_files(base_files(hidden=2 * HIDDEN)),
    "layers that the base has not": lambda: adapter_files(base_files(layers=LAYERS + 2)),
    "unknown module": lambda: _renamed("q_proj", "w_pack"),
    "unknown tensor": lambda: _plus("base_model.model.model.layers.0.extra.weight", (4, 4)),
    "unknown prefix": lambda: _renamed("base_model.model.", "something."),
    "embedding tensors": lambda: _plus(
        "base_model.model.model.embed_tokens.lora_embedding_A", (RANK, VOCABULARY)
    ),
    "A without B": lambda: _without("layers.0.self_attn.q_proj.lora_B.weight"),
    "B without A": lambda: _without("layers.0.self_attn.q_proj.lora_A.weight"),
    "all zero": lambda: _refilled(lambda _name, data: bytes(len(data))),
    "every B zero": lambda: _refilled(
        lambda name, data: bytes(len(data)) if "lora_B" in name else data
    ),
    "one value is NaN": lambda: _with_a_value(float("nan")),
    "one value is infinite": lambda: _with_a_value(float("-inf")),
    "header longer than the file": lambda: (
        adapter_files() | {WEIGHTS: (1 << 40).to_bytes(8, "little") + b'{"a": 1}'}
    ),
    "overlapping tensors": lambda: _header(_overlap),
    "offsets past the end": lambda: _header(_past_the_end),
    "a shape of other bytes": lambda: _header(_other_shape),
    "cut short": lambda: _cut(adapter_files()),
    "bytes behind the last tensor": lambda: (
        adapter_files() | {WEIGHTS: adapter_files()[WEIGHTS] + bytes(16)}
    ),
    "pickle weights": lambda: {
        CONFIG: adapter_files()[CONFIG],
        "adapter_model.bin": pickle.dumps(_Payload()),
    },
    "pickle beside the weights": lambda: (
        adapter_files() | {"optimizer.pt": pickle.dumps(_Payload())}
    ),
    "code beside the weights": lambda: adapter_files() | {"modeling_x.py": b"print()\n"},
    "10,000 files": lambda: (
        adapter_files() | {f"note-{number}.txt": b"x" for number in range(10_000)}
    ),
}
