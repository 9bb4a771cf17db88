from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.domain.plain_text import escaped, json_escaped

HOSTILE = [
    ("line\nend\r\t", "line\\nend\\r\\t"),
    ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
    ("C1 \x9b31m, DEL \x7f, NUL \x00", "C1 \\x9b31m, DEL \\x7f, NUL \\x00"),
    ("bidi \u202eevil\u2066\u200f", "bidi \\u202eevil\\u2066\\u200f"),
    ("next line \x85\u2028\u2029", "next line \\x85\\u2028\\u2029"),
    ("surrogate \ud800, tag \U000e0041", "surrogate \\ud800, tag \\U000e0041"),
    ("[/x] [bold]São Paulo 日本 😀 C:\\x", "[/x] [bold]São Paulo 日本 😀 C:\\x"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_what_moves_a_cursor_or_ends_a_line_is_escaped(text, shown):
    assert escaped(text) == shown


any_text = st.text(st.characters(), max_size=60)


@given(any_text)
def test_any_text_becomes_printable_and_stays_as_it_is_afterwards(text):
    assert escaped(text).isprintable()
    assert escaped(escaped(text)) == escaped(text)


@given(st.dictionaries(any_text, any_text, max_size=4))
def test_escaped_json_is_printable_and_the_same_value(value):
    shown = json_escaped(json.dumps(value, indent=1, ensure_ascii=False))
    assert shown.replace("\n", "").isprintable()
    assert json.loads(shown) == value
