"""The grammar of names."""

from __future__ import annotations

import pytest

from protos.domain import ids
from protos.domain.errors import InvalidRequest

CASES = {
    ids.check_pop_id: (
        ["GRU", "IAD", "US", "POP12345"],
        ["", "G", "gru", "1GR", "TOOLONGAB", "G-U", "GRU\n"],
    ),
    ids.check_node_id: (
        ["gru-1", "n0", "a" * 40],
        ["", "a", "1a", "-a", "a-", "GRU-1", "a" * 41, "a_b", "a.b", "gru-1\n"],
    ),
    ids.check_model_name: (
        ["acme/llama-8b@1", "hf.co/A_b.C@v1.0-rc1"],
        ["", "llama", "a/b", "a/b@", "/b@1", "a/b/c@1", "A/b@1", "../b@1", "a/../b@1", "a/b@1\n"],
    ),
    ids.check_deployment_name: (
        ["gpt-4", "acme/chat:fast", "A@1", "x" * 128],
        ["", "x" * 129, "-x", "a b", "caf\u00e9", 'a"b', "a\n"],
    ),
    ids.check_account_id: (["acme", "a", "a-1"], ["", "1a", "A", "a_b", "a" * 64, "a\n"]),
    ids.check_zone: (["BR", "EU"], ["", "B", "br", "BRA", "B1", "BR\n"]),
}


@pytest.mark.parametrize("check", CASES)
def test_good_names_come_back_unchanged(check):
    for text in CASES[check][0]:
        assert check(text) == text


@pytest.mark.parametrize("check", CASES)
def test_bad_names_are_refused_with_the_grammar(check):
    for text in CASES[check][1]:
        with pytest.raises(InvalidRequest) as raised:
            check(text)
        assert raised.value.hint.startswith("use ")


def test_a_long_invalid_name_is_cut_in_the_message():
    with pytest.raises(InvalidRequest) as raised:
        ids.check_node_id("x" * 100_000)
    assert len(raised.value.message) < 200
