"""Events and commands are values: equal by content, immutable, and each of one kind only."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from agent.core.engine_events import Command, Event, ProbeKind, ReadCounters, SendProbe

KINDS = [*get_args(Event), *get_args(Command)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_an_immutable_value(kind: type) -> None:
    names = [field.name for field in dataclasses.fields(kind)]
    one, other = (kind(**dict.fromkeys(names, 1)) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    for name in names:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, name, 2)


def test_an_event_is_no_command() -> None:
    assert not set(get_args(Event)) & set(get_args(Command))


def test_commands_to_an_engine_carry_their_time_limit() -> None:
    assert SendProbe(1, ProbeKind.LISTENING, 1_000.0).timeout_ms == 1_000.0
    assert ReadCounters(1, 2_000.0).timeout_ms == 2_000.0
