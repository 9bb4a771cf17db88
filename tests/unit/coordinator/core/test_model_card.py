"""The licence in the head of a model card."""

from __future__ import annotations

import pytest

from coordinator.core.model_card import licence_of


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags:\n- x\n---\n# M\n", "apache-2.0"),
        ('---\nlicense: "mit"\n---\n', "mit"),
        ("---\nlicense: other\nlicense_name: llama3.2\n---\n", "llama3.2"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\r\nlicense: mit\r\n---\r\n", "mit"),
        ("# M\nlicense: mit\n", ""),
        ("---\nlicense: a b\n---\n", ""),
        ("---\nlicense: " + "x" * 200 + "\n---\n", ""),
        ("---\n" + "x\n" * 20_000, ""),
        ("", ""),
    ],
)
def test_the_licence_is_what_the_head_names(card, licence):
    assert licence_of(card) == licence
