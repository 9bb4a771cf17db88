"""The picture of a trace: bars on their axis, sums, and no control characters."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from coordinator.cli.trace_view import TIME_CELLS, bar, headlines, tokens_line, trace_picture
from protos.domain.trace import Trace, TraceColdStart
from protos.domain.usage_record import BillingReason
from tests.support.traces import refused, trace

amounts = st.floats(min_value=0.0, max_value=1e9)


def drawn(one: Trace) -> list[str]:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(trace_picture(one))
    console.file.close()
    return console.export_text().splitlines()


def row(lines: list[str], name: str) -> str:
    (found,) = [line for line in lines if line.startswith(name + " ")]
    return found


def test_every_part_has_its_time_and_its_cost_on_one_axis() -> None:
    lines = drawn(trace(3))
    names = ["last mile", "receive", "auth", "route", "network", "admission", "queue", "prefill"]
    starts = [row(lines, name).index("█" if name != "auth" else "▏") for name in ("last mile",)]
    for name in [*names[1:], "decode"]:
        line = row(lines, name)
        starts.append(min(line.index(cell) for cell in "█▏" if cell in line))
    assert starts == sorted(starts), "each bar begins where the one before it has come to"
    assert "1,900" in row(lines, "prefill")
    assert "3,300" in row(lines, "decode")
    assert row(lines, "sum").split() == ["sum", "432.0", "5,200"]


def test_the_chosen_candidate_is_marked_and_the_late_one_says_by_how_much() -> None:
    lines = drawn(trace(3))
    (chosen,) = [line for line in lines if line.startswith("-> ")]
    assert "dxb-1" in chosen
    assert chosen.rstrip().endswith("fits")
    assert any("iad-1" in line and "over by 68.1 ms" in line for line in lines)


def test_the_budget_counts_what_the_user_felt() -> None:
    assert any("kept, first token felt after 143.0 ms" in line for line in headlines(trace()))
    late = replace(trace(), budget_ms=140.0, predicted_miss=True)
    assert any("missed" in line and "predicted miss" in line for line in headlines(late))


def test_tokens_are_shown_with_their_pace_and_their_price() -> None:
    said = tokens_line(trace())
    assert "15 prompt (1,500 nano-USD), 16 cached (400), 11 completion (3,300)" in said
    assert "TPOT P50 28.9 ms, P99 28.9 ms" in said


def test_a_refused_request_is_drawn_as_far_as_it_got() -> None:
    lines = drawn(refused(4))
    assert any("503, no engine can serve" in line for line in lines)
    assert not any(line.startswith("prefill") for line in lines)


def test_the_cost_of_an_answer_without_a_stream_is_one_part() -> None:
    lines = drawn(replace(trace(), stream=False, first_token_ms=None, token_gaps_us=()))
    assert "5,200" in row(lines, "answer")


def test_a_jump_of_the_clock_is_shown() -> None:
    assert any("wall clock jumped" in line for line in headlines(trace(clock_jumped=True)))


def test_control_characters_of_an_engine_are_escaped() -> None:
    hostile = replace(refused(), error="\x1b[2Jgone\r\n")
    assert not any("\x1b" in line for line in drawn(hostile))


@given(amounts, amounts, amounts)
def test_a_bar_stays_on_its_axis_and_a_positive_value_is_visible(
    began: float, took: float, rest: float
) -> None:
    whole = began + took + rest
    cells = bar(began, took, whole, TIME_CELLS)
    assert len(cells) <= TIME_CELLS
    assert (cells.strip() != "") == (took > 0.0 and whole > 0.0)


def test_a_cold_start_is_said_with_what_it_took() -> None:
    cold = TraceColdStart("adapter", "peer", 1_800_000, 640.4, 300.2)
    lines = headlines(replace(trace(), cold_start=cold))
    told = "cold start: adapter from peer, 1.8 MB in 640 ms, of which 300 ms pulled its files"
    assert told in lines
    on_disk = replace(cold, residency="host_memory", pull_ms=0.0)
    lines = headlines(replace(trace(), cold_start=on_disk))
    assert "cold start: adapter from host memory, 1.8 MB in 640 ms" in lines


@pytest.mark.parametrize("reason", list(BillingReason))
def test_both_tiers_are_shown_with_the_reason_and_the_card(reason: BillingReason) -> None:
    served = {"serving_tier": "edge", "billing_tier": "regional", "card_version": 7}
    lines = headlines(replace(trace(), billing_reason=str(reason), **served))
    (line,) = [one for one in lines if one.startswith("served edge, billed regional (")]
    assert line.endswith("price card version 7")
    unknown = headlines(replace(trace(), billing_reason="", **served))
    assert any(one.startswith("served edge, billed regional: $") for one in unknown)
