"""JSON of strangers: as deep as it may be, and no deeper."""

from __future__ import annotations

import orjson
import pytest

from coordinator.core.strangers_json import MAX_DEPTH, parse


@pytest.mark.parametrize("data", [b"1", b'"x"', b"[]", b'{"a": [1, {"b": null}]}'])
def test_what_is_flat_is_parsed(data):
    assert parse(data) == orjson.loads(data)


@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[1,{"a":', b"}]")])
def test_what_is_deep_is_no_json(begin, end):
    levels = begin.count(b"[") + begin.count(b"{")
    fits = MAX_DEPTH // levels
    assert parse(begin * fits + b"1" + end * fits)
    for depth in (fits + 1, 900):
        with pytest.raises(orjson.JSONDecodeError):
            parse(begin * depth + b"1" + end * depth)
