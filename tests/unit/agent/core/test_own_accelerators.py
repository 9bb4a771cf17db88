"""Which accelerators are the engine's own."""

from __future__ import annotations

import pytest

from agent.core.accelerators import Reading
from agent.core.own_accelerators import ALL, OwnAccelerators, wanted_devices

ZERO, ONE = Reading("GPU-aaa0", 0, "H100"), Reading("GPU-bbb1", 1, "H100")


@pytest.mark.parametrize(
    ("configured", "environ", "wanted"),
    [
        ((), {}, ALL),
        (("GPU-aaa0",), {"CUDA_VISIBLE_DEVICES": "1"}, ("GPU-aaa0",)),
        ((), {"CUDA_VISIBLE_DEVICES": "0, GPU-bbb1"}, ("0", "GPU-bbb1")),
        ((), {"CUDA_VISIBLE_DEVICES": "0,-1,1"}, ("0",)),
        ((), {"CUDA_VISIBLE_DEVICES": ""}, ()),
        ((), {"CUDA_VISIBLE_DEVICES": "MIG-12"}, ALL),
        ((), {"ROCR_VISIBLE_DEVICES": "1"}, ("1",)),
        ((), {"HIP_VISIBLE_DEVICES": "0"}, ("0",)),
    ],
)
def test_the_engines_devices_come_from_the_configuration_or_the_runtimes_variables(
    configured, environ, wanted
):
    assert wanted_devices(configured, environ, on_cpu=False) == wanted


def test_an_engine_on_the_processor_has_no_accelerator_of_its_own():
    assert wanted_devices((), {}, on_cpu=True) == ()
    assert OwnAccelerators(()).select([ZERO, ONE]) == ()


@pytest.mark.parametrize("device", ["0", "GPU-aaa0", "GPU-aa"])
def test_a_device_is_named_by_index_by_identity_or_by_its_start(device):
    assert OwnAccelerators((device,)).select([ZERO, ONE]) == (ZERO,)


def test_an_index_stays_with_the_accelerator_that_had_it_first():
    own = OwnAccelerators(("1",))
    assert own.select([ZERO, ONE]) == (ONE,)
    moved = Reading("GPU-ccc2", 1, "H100")
    assert own.select([ZERO, moved]) == ()


@pytest.mark.parametrize("device", ["7", "GPU-zzz", "GPU-"])
def test_with_a_device_that_is_not_there_or_not_one_all_are_watched_and_it_is_told(device):
    own = OwnAccelerators(("0", device))
    assert own.select([ZERO, ONE]) == (ZERO, ONE)
    assert own.unknown == (device,)


def test_without_a_limit_all_are_watched():
    assert OwnAccelerators(ALL).select([ZERO, ONE]) == (ZERO, ONE)
