"""One request's place at an engine."""

from __future__ import annotations

from agent.core.engine_place import Place, Work


def test_a_place_waits_until_it_is_served_or_refused() -> None:
    served, refused = Place(Work("a"), 0.0), Place(Work("a"), 0.0)
    assert served.waits
    served.served_mono_ms = 5.0
    refused.retry_after_s = 1.0
    assert not served.waits
    assert not refused.waits


def test_how_long_a_request_waited_is_known_to_the_millisecond() -> None:
    place = Place(Work("a"), 10.0)
    assert place.queue_ms(50.0) == 0.0, "it still waits"
    place.served_mono_ms = 50.0
    assert place.queue_ms(90.0) == 40.0


def test_a_first_token_before_it_was_served_is_not_after_a_wait() -> None:
    place = Place(Work("a"), 10.0)
    place.served_mono_ms = 50.0
    assert place.queue_ms(40.0) == 0.0
