"""How first tokens within and beyond their predicted P99 are counted."""

from __future__ import annotations

import pytest

from agent.core.coverage import BASES, Coverage
from protos.domain.regimes import Place


def counted(coverage: Coverage, basis: str) -> tuple[int, int]:
    tally = coverage.by_basis(basis)
    return tally.kept, tally.seen


def test_a_first_token_on_its_p99_is_kept_and_one_behind_it_is_not() -> None:
    coverage = Coverage()
    for took_ms in (10.0, 100.0, 100.1):
        coverage.note(took_ms, 100.0, learned=True, place=Place.FREE)
    assert counted(coverage, "learned") == (2, 3)
    assert coverage.by_basis("learned").ratio == pytest.approx(2 / 3)
    assert coverage.by_basis("profile").ratio is None


def test_a_cut_attempt_is_counted_only_after_its_p99() -> None:
    coverage = Coverage()
    coverage.note(99.0, 100.0, learned=True, place=Place.FREE, censored=True)
    assert counted(coverage, "learned") == (0, 0)
    coverage.note(101.0, 100.0, learned=True, place=Place.FREE, censored=True)
    assert counted(coverage, "learned") == (0, 1)


def test_each_basis_and_place_is_counted_by_itself_and_shown_from_the_start() -> None:
    coverage = Coverage()
    assert len(list(coverage.items())) == len(BASES) * len(Place)
    coverage.note(1.0, 2.0, learned=False, place=Place.FULL)
    coverage.note(3.0, 2.0, learned=True, place=Place.BEHIND)
    seen = {(basis, place): (tally.kept, tally.seen) for basis, place, tally in coverage.items()}
    assert seen["profile", Place.FULL] == (1, 1)
    assert seen["learned", Place.BEHIND] == (0, 1)
    assert sum(of[1] for of in seen.values()) == 2
