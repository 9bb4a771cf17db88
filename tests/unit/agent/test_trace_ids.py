"""Trace ids are all different, over more than one reading of chance."""

from agent.trace_ids import TraceIds


def test_ids_are_32_hexadecimal_digits_and_never_repeat() -> None:
    ids = TraceIds()
    made = [ids.make() for _ in range(1_000)]
    assert len(set(made)) == 1_000
    assert {len(one) for one in made} == {32}
    assert all(int(one, 16) >= 0 for one in made)
