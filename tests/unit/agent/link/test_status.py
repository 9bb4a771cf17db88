"""The age of the credentials does not hang on the wall clock."""

from __future__ import annotations

import math

from agent.link.status import CoordinatorClock, CredentialsAge


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


def test_the_coordinators_clock_goes_on_by_itself_when_this_hosts_jumps() -> None:
    here, mono = [5_000_000], Clock()
    clock = CoordinatorClock(lambda: here[0], mono)
    assert clock.now_unix_ms() == 5_000_000, "before the first beat there is no other"
    clock.heard(9_000_000)
    assert clock.offset_ms() == 4_000_000.0
    mono.now_mono_ms = 1_000.0
    here[0] += 31 * 86_400_000
    assert clock.now_unix_ms() == 9_001_000
    (sample,) = clock.samples(0.0)
    assert sample.value == clock.offset_ms() / 1_000
