"""Values of a JSON text, counted before it is parsed."""

from __future__ import annotations

import json
import random
from typing import Any

import orjson
import pytest

from agent.formats.json_size import (
    COUNTED_FROM_BYTES,
    MAX_ESCAPES,
    MAX_PARTS,
    MAX_VALUES,
    JsonSize,
    loads_bounded,
)
from protos.domain.errors import InvalidRequest


def counted(data: bytes, step: int | None = None) -> JsonSize:
    size = JsonSize()
    for at in range(0, len(data), step or max(1, len(data))):
        size.feed(data[at : at + (step or len(data))])
    return size


def parts_of(value: Any) -> int:
    """Texts, objects and lists in a value that was parsed."""
    if isinstance(value, dict):
        return 1 + sum(1 + parts_of(one) for one in value.values())
    if isinstance(value, list):
        return 1 + sum(map(parts_of, value))
    return int(isinstance(value, str))


def drawn(draw: random.Random, depth: int = 0) -> Any:
    kind = draw.randrange(6 if depth < 4 else 3)
    if kind == 0:
        return draw.choice([1, -2.5e3, True, None])
    if kind in (1, 2):
        return "".join(draw.choice('a"\\[]{},:\n中😀\u2028') for _ in range(draw.randrange(8)))
    if kind in (3, 4):
        return [drawn(draw, depth + 1) for _ in range(draw.randrange(4))]
    return {f'k"{n}\\': drawn(draw, depth + 1) for n in range(draw.randrange(4))}


@pytest.mark.parametrize("seed", range(200))
def test_parts_are_counted_as_a_parser_finds_them_however_the_text_is_cut(seed: int) -> None:
    draw = random.Random(seed)
    value = [drawn(draw) for _ in range(5)]
    data = json.dumps(value, ensure_ascii=draw.random() < 0.5).encode()
    assert counted(data, draw.randrange(1, 9)).parts == counted(data).parts == parts_of(value)


def test_what_is_within_texts_is_not_counted() -> None:
    data = json.dumps(["[{,:" * 1_000, '\\"[,' * 1_000]).encode()
    size = counted(data, 7)
    assert (size.values, size.parts) == (3, 3)


@pytest.mark.parametrize(
    "unit", [b"1,", b"[],", b"{},", b'"a",', b'{"a":1},', b"[", b'"k":1,', b"[[]],"]
)
def test_a_body_of_8_mib_of_small_values_is_refused_before_it_is_parsed(unit: bytes) -> None:
    data = b"[" + unit * (8 * 1024 * 1024 // len(unit))
    with pytest.raises(InvalidRequest, match="the body has more than"):
        counted(data, 256 * 1024)


def test_limits_are_reached_exactly() -> None:
    numbers = b"[" + b",".join([b"1"] * (MAX_VALUES - 1)) + b"]"
    assert counted(numbers).values == MAX_VALUES
    with pytest.raises(InvalidRequest):
        counted(numbers[:-1] + b",1]")
    texts = b"[" + b",".join([b'"a"'] * (MAX_PARTS - 1)) + b"]"
    assert counted(texts).parts == MAX_PARTS
    with pytest.raises(InvalidRequest):
        counted(texts[:-1] + b',""]')
    escapes = b'"' + rb"\n" * MAX_ESCAPES + b'"'
    assert counted(escapes).escapes == MAX_ESCAPES
    with pytest.raises(InvalidRequest):
        counted(escapes[:-1] + rb'\n"')


def test_escaped_code_points_are_no_escapes_that_cost() -> None:
    assert counted(json.dumps("中" * 10_000).encode(), 5).escapes == 0


def test_300_000_tokens_in_one_request_are_taken() -> None:
    data = orjson.dumps({"model": "m", "input": [[1] * 300 for _ in range(1_000)]})
    assert counted(data).values < MAX_VALUES


def test_an_answer_with_too_many_values_is_as_one_that_is_no_json() -> None:
    with pytest.raises(orjson.JSONDecodeError):
        loads_bounded(b"[" + b"[]," * COUNTED_FROM_BYTES + b"1]")
    assert loads_bounded(b'{"a":1}') == {"a": 1}
    assert loads_bounded(orjson.dumps("a" * COUNTED_FROM_BYTES)) == "a" * COUNTED_FROM_BYTES
