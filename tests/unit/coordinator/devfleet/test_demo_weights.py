"""The weights made on a laptop: shapes kept, every tensor changed, the same again for a seed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from coordinator.devfleet.demo_weights import (
    AdapterRecipe,
    bytes_of,
    floats_of,
    write_adapter,
    write_fine_tune,
)
from coordinator.devfleet.safetensors_file import read_tensors, tensors_of
from protos.domain.errors import InvalidRequest
from tests.support.fine_tunes import digest_of, fine_tune_of
from tests.support.lora_files import (
    BAD_ADAPTERS,
    CONFIG,
    EVERY_PROJECTION,
    HIDDEN,
    LAYERS,
    WEIGHTS,
    adapter_files,
    base_files,
    tensors_in,
    write_files,
)

TYPES = ["BF16", "F16", "F32"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_files(tmp_path / "base", base_files())


def numbers(path: Path) -> dict[str, tuple[float, ...]]:
    data = path.read_bytes()
    return {
        one.name: floats_of(data[one.offset_bytes : one.offset_bytes + one.size_bytes], one.dtype)
        for one in read_tensors(path)
    }


@pytest.mark.parametrize("dtype", TYPES)
def test_a_fine_tune_changes_every_tensor_a_little_and_no_shape(tmp_path: Path, dtype: str) -> None:
    base = write_files(tmp_path / "base", base_files(dtype=dtype))
    write_fine_tune(base, tmp_path / "tuned")
    assert tensors_of(tmp_path / "tuned") == tensors_of(base)
    before = numbers(base / "model.safetensors")
    after = numbers(tmp_path / "tuned" / "model.safetensors")
    for name, old in before.items():
        new = after[name]
        assert new != old
        if not name.endswith("norm.weight"):
            assert all(
                math.isclose(a, b, rel_tol=1 / 32, abs_tol=1e-4)
                for a, b in zip(old, new, strict=True)
            )


def test_a_fine_tune_keeps_the_other_files(tmp_path: Path, base: Path) -> None:
    write_fine_tune(base, tmp_path / "tuned")
    for name in ("config.json", "tokenizer_config.json"):
        assert (tmp_path / "tuned" / name).read_bytes() == (base / name).read_bytes()


def test_a_seed_gives_the_same_bytes_again_and_another_seed_others(
    tmp_path: Path, base: Path
) -> None:
    first = digest_of(fine_tune_of(base, tmp_path / "a", seed=1))
    assert digest_of(fine_tune_of(base, tmp_path / "b", seed=1)) == first
    assert digest_of(fine_tune_of(base, tmp_path / "b", seed=2)) != first
    for folder, seed in (("c", 1), ("d", 1), ("e", 2)):
        write_adapter(base, tmp_path / folder, AdapterRecipe(seed=seed))
    assert digest_of(tmp_path / "c") == digest_of(tmp_path / "d") != digest_of(tmp_path / "e")


def test_an_adapter_has_a_and_b_of_every_projection_in_peft_s_names_and_shapes() -> None:
    files = adapter_files(rank=4, modules=EVERY_PROJECTION)
    tensors = tensors_in(files)
    assert len(tensors) == 2 * len(EVERY_PROJECTION) * LAYERS
    at = "base_model.model.model.layers.1.mlp.down_proj"
    assert tensors[f"{at}.lora_A.weight"][0].shape == (4, 32)
    assert tensors[f"{at}.lora_B.weight"][0].shape == (HIDDEN, 4)
    config = json.loads(files[CONFIG])
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 4, "LORA")
    assert config["target_modules"] == sorted(EVERY_PROJECTION)


def test_an_adapter_adds_as_much_as_its_strength_says(tmp_path: Path, base: Path) -> None:
    write_adapter(base, tmp_path / "one", AdapterRecipe(strength=1.0, rank=8))
    made = numbers(tmp_path / "one" / WEIGHTS)
    a = [value for name, values in made.items() if "lora_A" in name for value in values]
    b = [value for name, values in made.items() if "lora_B" in name for value in values]
    assert deviation(a) == pytest.approx(1 / math.sqrt(HIDDEN), rel=0.1)
    assert deviation(b) == pytest.approx(1 / math.sqrt(8), rel=0.1)
    write_adapter(base, tmp_path / "none", AdapterRecipe(strength=0.0))
    silent = numbers(tmp_path / "none" / WEIGHTS)
    assert not any(v for name, values in silent.items() if "lora_B" in name for v in values)


def deviation(values: list[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))


def test_a_base_without_the_projections_is_refused(tmp_path: Path, base: Path) -> None:
    with pytest.raises(InvalidRequest, match="has no layers with query_key_value"):
        write_adapter(base, tmp_path / "x", AdapterRecipe(modules=("query_key_value",)))


@pytest.mark.parametrize("dtype", TYPES)
def test_numbers_survive_their_bytes(dtype: str) -> None:
    assert floats_of(bytes_of([1.5, -0.25, 0.0], dtype), dtype) == (1.5, -0.25, 0.0)


@pytest.mark.parametrize("fault", BAD_ADAPTERS)
def test_every_bad_adapter_differs_from_the_good_one(fault: str) -> None:
    files = BAD_ADAPTERS[fault]()
    assert files
    assert files != adapter_files()
