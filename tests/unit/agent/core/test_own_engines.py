"""The stand-in for this node's engines keeps the product's contract."""

from __future__ import annotations

import inspect

from agent.core.own_engines import OwnEngines
from agent.drain_state import OpenEngines
from tests.support.own_engines import StandInEngines


def test_the_engines_of_an_agent_and_those_of_tests_are_asked_alike() -> None:
    for name, told in inspect.getmembers(OwnEngines, inspect.isfunction):
        if name.startswith("_"):
            continue
        for made in (OpenEngines, StandInEngines):
            asked = inspect.signature(getattr(made, name))
            assert list(asked.parameters) == list(inspect.signature(told).parameters), name
