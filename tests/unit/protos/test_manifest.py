"""Which files may be in the registry."""

from __future__ import annotations

import pytest

from protos.domain import manifest
from protos.domain.errors import InvalidRequest
from protos.domain.manifest import (
    FAMILY_OF_ARCHITECTURE,
    check_manifest,
    check_model_config,
    check_path,
    manifest_sha256,
    refuse_remote_code,
)
from protos.domain.resources import ModelFile

SHA = bytes(range(32))


def file(path, size_bytes=1_000, sha256=SHA):
    return ModelFile(path, sha256, size_bytes)


GOOD = [
    file("config.json"),
    file("model-00001-of-00002.safetensors", 5 * 1024**3),
    file("model-00002-of-00002.safetensors", 5 * 1024**3),
    file("tokenizer.json"),
    file("tokenizer.model"),
    file("merges.txt"),
    file("chat_template.jinja"),
    file("README.md"),
    file("LICENSE"),
    file("original/params.json"),
]


def test_a_hugging_face_folder_passes():
    check_manifest(GOOD)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd.json",
        "../config.json",
        "a/../b.json",
        "./a.json",
        "a//b.json",
        "a/",
        "a\\b.json",
        "C:\\a.json",
        "C:/a.json",
        "~/a.json",
        ".hidden.json",
        "a/.git/b.json",
        "-rf.json",
        "a b.json",
        "a\x00.json",
        "a\n.json",
        "caf\u00e9.json",
        "\u2025/a.json",
        "a/b/c/d/e.json",
        "a" * 200 + ".json",
    ],
)
def test_paths_that_could_leave_the_folder_are_refused(path):
    with pytest.raises(InvalidRequest):
        check_path(path)
    with pytest.raises(InvalidRequest):
        check_manifest([*GOOD, file(path)])


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "pkl", "pickle", "ckpt", "py", "PY", "Bin"])
def test_formats_that_run_code_are_refused_by_name(suffix):
    with pytest.raises(InvalidRequest, match="can hold code"):
        check_path(f"pytorch_model.{suffix}")


@pytest.mark.parametrize("path", ["run.sh", "lib.so", "model.gguf", "weights", "a.tar", "a.onnx"])
def test_other_kinds_are_refused(path):
    with pytest.raises(InvalidRequest, match="not a kind of file"):
        check_path(path)


def test_config_and_weights_must_be_there():
    with pytest.raises(InvalidRequest, match=r"config\.json"):
        check_manifest([each for each in GOOD if each.path != "config.json"])
    with pytest.raises(InvalidRequest, match="safetensors"):
        check_manifest([each for each in GOOD if not each.path.endswith(".safetensors")])
    with pytest.raises(InvalidRequest):
        check_manifest([])


def test_duplicates_are_refused():
    with pytest.raises(InvalidRequest, match="listed twice"):
        check_manifest([*GOOD, file("config.json", 2_000)])


def test_a_file_that_is_also_a_folder_is_refused():
    with pytest.raises(InvalidRequest, match="also listed as a file"):
        check_manifest([*GOOD, file("config.json/a.json")])


@pytest.mark.parametrize(
    "bad",
    [
        file("a.json", 0),
        file("a.json", -1),
        file("a.json", manifest.MAX_TEXT_FILE_BYTES + 1),
        file("a.safetensors", manifest.MAX_FILE_BYTES + 1),
        file("a.json", sha256=b""),
        file("a.json", sha256=SHA + b"!"),
    ],
)
def test_impossible_sizes_and_digests_are_refused(bad):
    with pytest.raises(InvalidRequest):
        check_manifest([*GOOD, bad])


def test_count_and_total_are_limited():
    many = [file(f"part-{index}.json") for index in range(manifest.MAX_FILES)]
    with pytest.raises(InvalidRequest, match="files are more than"):
        check_manifest([*GOOD, *many])
    large = [file(f"w-{index}.safetensors", manifest.MAX_FILE_BYTES) for index in range(33)]
    with pytest.raises(InvalidRequest, match="bytes are more than"):
        check_manifest([*GOOD, *large])


def test_identity_ignores_order_and_nothing_else():
    identity = manifest_sha256(GOOD)
    assert len(identity) == 32
    assert manifest_sha256(GOOD[::-1]) == identity
    assert manifest_sha256(GOOD[1:]) != identity
    for changed in (
        file("config2.json"),
        file("config.json", 1_001),
        file("config.json", sha256=SHA[::-1]),
    ):
        assert manifest_sha256([changed, *GOOD[1:]]) != identity


def config(architecture="LlamaForCausalLM", **more):
    return {"architectures": [architecture], "max_position_embeddings": 8_192, **more}


@pytest.mark.parametrize(("architecture", "family"), FAMILY_OF_ARCHITECTURE.items())
def test_families(architecture, family):
    assert check_model_config(config(architecture)) == (family, 8_192)
    assert family in ("llama", "mistral", "qwen", "phi")


@pytest.mark.parametrize(
    "bad",
    [
        {},
        config("GPT2LMHeadModel"),
        config("LlamaForSequenceClassification"),
        {**config(), "architectures": []},
        {**config(), "architectures": "LlamaForCausalLM"},
        {**config(), "architectures": ["LlamaForCausalLM", "EvilForCausalLM"]},
        {**config(), "architectures": [{"a": 1}]},
        config(max_position_embeddings=0),
        config(max_position_embeddings=-1),
        config(max_position_embeddings=True),
        config(max_position_embeddings="8192"),
        config(max_position_embeddings=10**9),
        {"architectures": ["LlamaForCausalLM"]},
    ],
)
def test_configurations_that_cannot_be_served_are_refused(bad):
    with pytest.raises(InvalidRequest):
        check_model_config(bad)


@pytest.mark.parametrize(
    "code",
    [
        {"auto_map": {"AutoModel": "modeling.Evil"}},
        {"auto_map": {}},
        {"text_config": {"auto_map": {"AutoConfig": "evil--x.Y"}}},
        {"sub": [{"deep": {"custom_pipelines": {"x": 1}}}]},
        {"trust_remote_code": True},
    ],
)
def test_configurations_that_name_code_are_refused(code):
    with pytest.raises(InvalidRequest, match="its own code"):
        check_model_config(config(**code))
    with pytest.raises(InvalidRequest, match="its own code"):
        refuse_remote_code(code)


def test_a_configuration_with_remote_code_disabled_passes():
    refuse_remote_code({"trust_remote_code": False, "auto_map": None})


def test_deeply_nested_configurations_are_walked_without_recursion():
    deep: dict = {"auto_map": {"x": "y"}}
    for _ in range(50_000):
        deep = {"a": deep}
    with pytest.raises(InvalidRequest, match="its own code"):
        refuse_remote_code(deep)
    while "a" in deep:
        deep = deep.pop("a")


def test_weights_that_only_some_readers_would_take_for_weights_are_refused():
    for path in ("model.SAFETENSORS", "a/model.Safetensors"):
        with pytest.raises(InvalidRequest, match="no name of weights"):
            check_path(path)
