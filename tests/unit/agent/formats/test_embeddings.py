"""Embeddings: never a stream, in two encodings, with usage at the end."""

from __future__ import annotations

import pytest

from agent.formats.body import BodyCaps, read_body
from agent.formats.body_rules import check_body
from agent.formats.embeddings import EMBEDDINGS
from protos.domain.errors import InvalidRequest

CAPS = BodyCaps(max_n=4, max_prompt_logprobs=5, max_inputs=3)


def test_embeddings_are_never_a_stream() -> None:
    body = read_body(b'{"model": "m", "stream": true, "input": "x"}', EMBEDDINGS, caps=CAPS)
    assert not body.stream


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_encodings_of_clients_pass(encoding: str | None) -> None:
    check_body(EMBEDDINGS.rules, {"input": "x", "encoding_format": encoding}, CAPS)


@pytest.mark.parametrize("encoding", ["bytes", ["float"], 1])
def test_other_encodings_are_refused(encoding: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_body(EMBEDDINGS.rules, {"input": "x", "encoding_format": encoding}, CAPS)
    assert caught.value.param == "encoding_format"


def test_usage_is_found_behind_the_vectors() -> None:
    assert EMBEDDINGS.body_usage(b'{"data":[],"usage":{"prompt_tokens":5}}') == {"prompt_tokens": 5}
