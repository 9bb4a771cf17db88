"""Two hosts made from one image, told from one agent that reconnects or restarts."""

from __future__ import annotations

from coordinator.core.twins import SHOWN_MS, Caller, TwinWatch

ALIVE_MS = 6_000.0
A, B = Caller("boot-a", "192.0.2.1"), Caller("boot-b", "192.0.2.2")
A_AGAIN = Caller("boot-a2", "192.0.2.1")


def watch() -> TwinWatch:
    return TwinWatch(ALIVE_MS)


def test_a_second_host_is_refused_while_the_first_reports_and_both_addresses_are_named() -> None:
    one = watch()
    assert one.opens(A, None, 0.0, 0.0) is None
    twin = one.opens(B, A, 1_000.0, 2_000.0)
    assert twin is not None
    assert twin.is_new
    assert str(twin) == "192.0.2.1 and 192.0.2.2"
    assert one.seen(2_000.0) == twin


def test_the_alarm_is_raised_once_while_the_second_host_keeps_asking() -> None:
    one, now = watch(), 0.0
    raised = 0
    for _ in range(100):
        twin = one.opens(B, A, now, now)
        assert twin is not None
        raised += twin.is_new
        now += 30_000.0
    assert raised == 1
    assert one.seen(now + SHOWN_MS) is None, "the second host is gone"
    again = one.opens(B, A, now + SHOWN_MS, now + SHOWN_MS)
    assert again is not None
    assert again.is_new


def test_an_agent_that_reconnects_takes_its_place_from_any_address() -> None:
    one = watch()
    moved = Caller(A.boot_id, "198.51.100.7")
    assert one.opens(moved, A, 0.0, 100.0) is None
    assert one.seen(100.0) is None


def test_an_agent_that_was_restarted_takes_its_place() -> None:
    one = watch()
    assert one.opens(A_AGAIN, A, 0.0, 100.0) is None
    assert one.seen(100.0) is None


def test_a_restarted_agent_with_a_new_address_takes_its_place_once_the_old_stream_is_silent() -> (
    None
):
    one = watch()
    assert one.opens(B, A, 0.0, ALIVE_MS) is not None
    assert one.opens(B, A, 0.0, ALIVE_MS + 1.0) is None


def test_two_hosts_behind_one_address_are_told_when_the_replaced_one_comes_back() -> None:
    """Seen: two hosts from one image swapped every 30 s, with one healthy row and no alarm."""
    one = watch()
    assert one.opens(A_AGAIN, A, 0.0, 100.0) is None, "this may be a restart"
    twin = one.opens(A, A_AGAIN, 30_000.0, 30_100.0)
    assert twin is not None, "no restart brings a process back"
    assert one.opens(A, A_AGAIN, 60_000.0, 60_100.0) is not None


def test_what_is_remembered_of_a_node_is_bounded() -> None:
    one, present = watch(), A
    for number in range(1_000):
        newcomer = Caller(f"boot-{number}", A.address)
        assert one.opens(newcomer, present, 0.0, 0.0) is None
        present = newcomer
    assert one.opens(Caller("boot-0", A.address), present, 0.0, 0.0) is None
    assert one.opens(Caller("boot-998", A.address), present, 0.0, 0.0) is not None
