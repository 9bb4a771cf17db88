"""Sites, engines and cores of a local fleet."""

from __future__ import annotations

import pytest

from coordinator.devfleet.plan import FleetWish, cores_of


def test_the_default_is_three_engines_in_five_sites() -> None:
    assert FleetWish().has_five_sites
    assert FleetWish().engine_count == 3


def test_with_running_servers_the_default_is_two_sites() -> None:
    urls = ("http://127.0.0.1:8000",)
    assert not FleetWish(urls).has_five_sites
    assert FleetWish(urls, sites=5).has_five_sites
    assert FleetWish(urls, sites=5).engine_count == 0


def test_two_sites_have_one_engine_by_default() -> None:
    assert FleetWish(sites=2).engine_count == 1
    assert FleetWish(sites=2, engines=2).engine_count == 2


def test_a_single_engine_takes_the_cores_that_vllm_chooses() -> None:
    assert cores_of(0, 1, {0, 1, 2, 3}) == ""


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        ({0, 1, 2}, ["2", "1", "0"]),
        ({0, 1}, ["1", "0", "1"]),
        ({5}, ["5", "5", "5"]),
        (set(range(8)), ["6,7", "4,5", "2,3"]),
    ],
)
def test_several_engines_share_the_cores(cores: set[int], expected: list[str]) -> None:
    assert [cores_of(index, 3, cores) for index in range(3)] == expected
