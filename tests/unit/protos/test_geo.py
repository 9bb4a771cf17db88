"""Known distances, and estimates compared with published round trips."""

from __future__ import annotations

import pytest

from protos.domain.geo import great_circle_km, prior_rtt_ms_p50, prior_rtt_ms_p99

VIRGINIA = (37.3719, -79.8164)
SAO_PAULO = (-23.5505, -46.6333)
LONDON = (51.5074, -0.1278)
TOKYO = (35.6762, 139.6503)
SYDNEY = (-33.8688, 151.2093)


def test_known_distances():
    assert great_circle_km(0, 0, 0, 90) == pytest.approx(10_007.6, rel=1e-4)
    assert great_circle_km(90, 0, -90, 77) == pytest.approx(20_015.1, rel=1e-4)
    assert great_circle_km(*LONDON, *TOKYO) == pytest.approx(9_559, rel=0.005)
    assert great_circle_km(*LONDON, *LONDON) == 0.0


def test_antipodes_do_not_leave_the_domain_of_arcsine():
    assert great_circle_km(12.3, 45.6, -12.3, -134.4) == pytest.approx(20_015.1, rel=1e-4)


@pytest.mark.parametrize(
    ("a", "b", "measured_ms"),
    [
        (VIRGINIA, SAO_PAULO, 117.0),
        (VIRGINIA, LONDON, 78.0),
        (LONDON, SYDNEY, 247.0),
        (TOKYO, SYDNEY, 103.0),
    ],
)
def test_estimates_are_near_the_measured_medians(a, b, measured_ms):
    """Source of the medians: Microsoft, "Azure network round-trip latency statistics"."""
    distance_km = great_circle_km(*a, *b)
    assert 0.6 < measured_ms / prior_rtt_ms_p50(distance_km) < 1.6
    assert measured_ms < prior_rtt_ms_p99(distance_km)


def test_estimates_grow_with_distance_and_stay_above_the_speed_of_light_in_fibre():
    """Light travels about 204 km per ms in fibre; a round trip covers the distance twice."""
    distances_km = [0.0, 1.0, 100.0, 1_000.0, 4_000.0, 4_001.0, 10_000.0, 20_000.0]
    estimates_ms = [prior_rtt_ms_p50(each) for each in distances_km]
    assert estimates_ms == sorted(estimates_ms)
    for distance_km, estimate_ms in zip(distances_km, estimates_ms, strict=True):
        assert estimate_ms > 2 * distance_km / 204.0


def test_hosts_of_one_site_have_a_short_round_trip():
    assert prior_rtt_ms_p50(0.0) < 1.0
