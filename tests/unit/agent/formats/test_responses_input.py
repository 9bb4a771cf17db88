"""Items of a Responses input that vLLM refuses and that clients send all the same."""

from __future__ import annotations

from typing import Any

import pytest

from agent.formats.responses_input import fit_responses_input
from protos.domain.errors import InvalidRequest

SAID = {"role": "user", "content": "hi"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
TOOL = {"type": "function", "name": "f"}
OTHER = {"type": "function", "name": "g"}


def reference(identifier: object) -> dict[str, Any]:
    return {"type": "item_reference", "id": identifier}


@pytest.mark.parametrize("given", [None, "hi", 5, [], [SAID, CALL], [5, None, {"type": []}]])
def test_an_input_of_a_conversation_is_left_as_it_is(given: object) -> None:
    fields = {"input": given}
    assert fit_responses_input(fields) == []
    assert fields["input"] is given


def test_tools_in_the_input_are_returned_and_no_item_any_more() -> None:
    fields: dict[str, object] = {
        "input": [
            {"type": "additional_tools", "tools": [TOOL]},
            SAID,
            {"type": "additional_tools", "tools": 5},
            {"type": "additional_tools", "tools": [OTHER]},
        ]
    }
    assert fit_responses_input(fields) == [TOOL, OTHER]
    assert fields["input"] == [SAID]


@pytest.mark.parametrize(
    "items",
    [
        [SAID, reference("rs_1")],
        [SAID, reference("rs_1"), CALL],
        [SAID, reference("msg_1"), CALL],
        [SAID, reference("rs_1"), reference("msg_1"), CALL],
    ],
)
def test_references_that_a_conversation_can_miss_are_left_out(items: list[object]) -> None:
    fields: dict[str, object] = {"input": items}
    fit_responses_input(fields)
    assert fields["input"] == [item for item in items if item in (SAID, CALL)]


@pytest.mark.parametrize(
    "items",
    [
        [SAID, reference("msg_1"), SAID],
        [SAID, reference("msg_1")],
        [SAID, reference("msg_1"), reference("rs_1")],
        [reference(None), SAID],
        [reference(5)],
    ],
)
def test_a_reference_to_text_is_refused_with_the_next_step(items: list[object]) -> None:
    with pytest.raises(InvalidRequest, match="none are kept here") as caught:
        fit_responses_input({"input": items})
    assert caught.value.param == "input"
    assert "store" in caught.value.hint


def test_a_hundred_thousand_references_are_read_once() -> None:
    fields: dict[str, object] = {"input": [reference("rs_1")] * 100_000}
    fit_responses_input(fields)
    assert fields["input"] == []
