"""The age of the credentials does not hang on the wall clock."""

from __future__ import annotations

import math

from agent.link.status import CredentialsAge


class Clock:
    def __init__(self) -> None:
        self.now_mono_ms = 0.0

    def __call__(self) -> float:
        return self.now_mono_ms


def test_never_confirmed_is_infinitely_old() -> None:
    age = CredentialsAge(Clock())
    assert age.age_s() == math.inf
    assert age.confirmed_unix_ms(1_000) == 0


def test_age_grows_with_monotonic_time() -> None:
    clock = Clock()
    age = CredentialsAge(clock)
    age.confirm()
    clock.now_mono_ms = 90_000.0
    assert age.age_s() == 90.0


def test_the_age_survives_a_restart() -> None:
    clock = Clock()
    before = CredentialsAge(clock)
    before.confirm()
    clock.now_mono_ms = 60_000.0
    on_disk = before.confirmed_unix_ms(1_000_000)
    after = CredentialsAge(Clock())
    after.restore(on_disk, 1_000_000 + 40_000)
    assert after.age_s() == 100.0


def test_a_clock_that_went_back_makes_them_young_not_negative() -> None:
    age = CredentialsAge(Clock())
    age.restore(2_000_000, 1_000_000)
    assert age.age_s() == 0.0


def test_an_image_that_never_had_them_confirms_nothing() -> None:
    age = CredentialsAge(Clock())
    age.restore(0, 1_000_000)
    assert age.age_s() == math.inf
