"""Shapes say where a value is wrong, and never accept a string that no list or pattern has."""

from __future__ import annotations

import re
import time

import pytest

from coordinator.core.json_shape import (
    Either,
    Fields,
    Many,
    Matching,
    Named,
    Nothing,
    Numbers,
    Text,
    check_shape,
    each,
    words,
)
from protos.domain.errors import InvalidRequest

DIGITS = Matching(re.compile(r"\d+"), "digits", 5)
SHAPE = Fields(
    {
        **each("a b", Numbers(3, 100)),
        "choice": words("x y"),
        "deep": Fields({"text": Text(5), "list": Many(Text(5), 2)}),
        "either": Either((str,), Text(3), Numbers()),
        "map": Named(DIGITS, words("x"), 2),
        "none": Nothing(),
    }
)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": 1, "b": [1, 2.5, None], "choice": "x"},
        {"a": None, "choice": None, "deep": None, "map": None, "none": None},
        {"deep": {"text": "/a/b", "list": ["a", "b"]}, "either": "abc", "map": {"1": "x"}},
        {"either": 1e30, "none": {}},
        {"none": []},
        {"none": False},
    ],
)
def test_values_of_a_shape_pass(value):
    check_shape(SHAPE, value, "f.json")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"c": 1}, "f.json: c is not a key"),
        ({"a": "1"}, "f.json: a is 1, a number"),
        ({"a": 101}, "f.json: a is 101, at most 100"),
        ({"a": [1] * 4}, "f.json: a has 4 numbers"),
        ({"a": [[1]]}, "f.json: a is a list"),
        ({"a": {"b": 1}}, "f.json: a is an object"),
        ({"choice": "z"}, "one of x, y"),
        ({"choice": ["x"]}, "f.json: choice is a list"),
        ({"deep": {"text": "abcdef"}}, "f.json: deep.text has 6 characters"),
        ({"deep": {"list": ["a"] * 3}}, "f.json: deep.list has 3 items"),
        ({"deep": {"list": [1]}}, "f.json: deep.list[0] is 1"),
        ({"deep": {"other_path": "x"}}, "f.json: deep.other_path names a path"),
        ({"deep": []}, "f.json: deep is a list"),
        ({"either": "abcd"}, "f.json: either has 4 characters"),
        ({"map": {"x": "x"}}, "a key of f.json: map is x, digits"),
        ({"map": {"1": "x", "2": "x", "3": "x"}}, "f.json: map has 3 keys"),
        ({"map": {"123456": "x"}}, "digits"),
        ({"none": {"a": 1}}, "f.json: none"),
        ({"none": "x://y"}, "names an address, 'x://y'"),
        ([], "f.json is a list"),
        ("x", "f.json is x"),
    ],
)
def test_a_refusal_says_where_and_what(value, says):
    with pytest.raises(InvalidRequest) as refused:
        check_shape(SHAPE, value, "f.json")
    assert says in refused.value.message


def test_what_others_wrote_is_shown_short_and_escaped():
    with pytest.raises(InvalidRequest) as refused:
        check_shape(SHAPE, {"\x1b[31m" + "x" * 1_000: 1}, "f.json")
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 200


def test_a_number_that_is_no_number_is_refused():
    with pytest.raises(InvalidRequest):
        check_shape(SHAPE, {"a": float("nan")}, "f.json")


@pytest.mark.parametrize("text", ["a" * 4_000_000, "a:/" * 1_300_000, "a://" * 1_000_000])
def test_a_long_text_at_an_unknown_key_is_refused_at_once(text):
    began_s = time.process_time()
    with pytest.raises(InvalidRequest):
        check_shape(Fields({}), {"unknown": text}, "config.json")
    assert time.process_time() - began_s < 2.0
