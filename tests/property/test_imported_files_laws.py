"""Whatever a model's files say, an import refuses or reads them within bounds."""

from __future__ import annotations

import copy
import io
import tracemalloc
from contextlib import suppress

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.blobs.gguf_layout import BadGguf, check_model, read_layout
from coordinator.core.json_shape import check_shape
from coordinator.core.model_config import GENERATION, check_config
from coordinator.core.safetensors_header import LENGTH_BYTES, check_header, header_bytes
from coordinator.core.tokenizer_config import check_tokenizer
from protos.domain.errors import InvalidRequest
from tests.support.gguf_files import gguf_file
from tests.support.model_files import safetensors
from tests.support.real_configs import CONFIGS

MAX_HEAD_BYTES = 1_000_000

naming = st.sampled_from(
    [
        "/etc/passwd",
        "../other/model",
        "acme/model",
        "https://example.org/model",
        "s3://bucket/key",
        "file:///etc/passwd",
        "modeling_evil.EvilForCausalLM",
        "acme--modeling.Evil",
        "os.system",
        "C:\\models",
        "~/model",
        "kernels-community/attention",
    ]
)
keys = st.text(min_size=1, max_size=20) | st.sampled_from(
    [
        "name_or_path",
        "model",
        "path",
        "url",
        "class",
        "module",
        "verifier",
        "draft",
        "file",
        "auto_map",
        "factor",
    ]
)


def places(value, path=()):
    """Yield the path of every object and every value in ``value``."""
    if isinstance(value, dict):
        yield path
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))
        yield (*path, len(value))
    else:
        yield path


def changed(config, path, value, key):
    """Return ``config`` with ``value`` at ``path``, or below ``key`` where an object is there."""
    made = copy.deepcopy(config)
    here = made
    for step in path[:-1]:
        here = here[step]
    if not path:
        here[key] = value
        return made
    last = path[-1]
    if isinstance(here, list) and last == len(here):
        here.append(value)
    elif isinstance(here[last], dict):
        here[last][key] = value
    else:
        here[last] = value
    return made


@given(st.data(), st.sampled_from(sorted(CONFIGS)), naming, keys)
@settings(max_examples=400)
def test_a_path_an_address_or_a_class_is_refused_wherever_it_is(data, name, value, key):
    config = CONFIGS[name]
    path = data.draw(st.sampled_from(sorted(places(config), key=str)))
    # Names of the network's own modules look like classes, and are compared with names only.
    if not {"ignore", "targets", "modules_to_not_convert"}.isdisjoint(path):
        value = "/etc/passwd"
    with pytest.raises(InvalidRequest):
        check_config(changed(config, path, value, key))


@given(st.data(), st.sampled_from(sorted(CONFIGS)), st.text(max_size=8))
def test_an_unknown_key_is_refused_at_any_depth(data, name, key):
    config = CONFIGS[name]
    objects = [path for path in places(config) if isinstance(at(config, path), dict)]
    path = data.draw(st.sampled_from(sorted(objects, key=str)))
    made = copy.deepcopy(config)
    at(made, path)["x_" + key] = 1
    with pytest.raises(InvalidRequest):
        check_config(made)


def at(value, path):
    for step in path:
        if isinstance(value, list) and step == len(value):
            return None
        value = value[step]
    return value


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


@given(anything)
def test_any_json_is_checked_or_refused_and_nothing_else(value):
    for check in (
        lambda: check_shape(GENERATION, value, "generation_config.json"),
        lambda: isinstance(value, dict) and check_config(value),
        lambda: isinstance(value, dict) and check_tokenizer(value),
        lambda: isinstance(value, dict) and check_header(value, 100, "m.safetensors"),
    ):
        with suppress(InvalidRequest):
            check()


def mutated(data, draw_from):
    """Return ``data`` cut, and with some bytes replaced."""
    size = draw_from.draw(st.integers(0, len(data)))
    made = bytearray(data[: size or len(data)])
    for _ in range(draw_from.draw(st.integers(0, 6))):
        place = draw_from.draw(st.integers(0, max(0, len(made) - 1)))
        some = draw_from.draw(st.binary(min_size=1, max_size=8) | st.just(b"\xff" * 8))
        made[place : place + len(some)] = some
    return bytes(made)


@given(st.data())
@settings(max_examples=400)
def test_a_damaged_gguf_file_is_refused_or_read_in_little_memory(data):
    content = mutated(gguf_file(), data)
    tracemalloc.start()
    try:
        layout = read_layout(io.BytesIO(content), len(content))
        for tensor in layout.tensors.values():
            assert tensor.offset + tensor.size_bytes <= len(content)
        check_model(layout, "llama")
    except BadGguf:
        pass
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < MAX_HEAD_BYTES


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_as_gguf(content):
    try:
        read_layout(io.BytesIO(b"GGUF\x03\0\0\0" + content), len(content) + 8)
    except BadGguf:
        return


@given(st.data())
@settings(max_examples=400)
def test_a_damaged_safetensors_file_is_refused_or_whole(data):
    content = mutated(safetensors(), data)
    try:
        length = header_bytes(content[: LENGTH_BYTES + 1], len(content), "m")
        end = LENGTH_BYTES + length
        header = orjson.loads(content[LENGTH_BYTES:end])
        check_header(header, len(content) - end, "m")
    except (InvalidRequest, orjson.JSONDecodeError):
        return
    total = sum(
        one["data_offsets"][1] - one["data_offsets"][0]
        for name, one in header.items()
        if name != "__metadata__"
    )
    assert total == len(content) - end
