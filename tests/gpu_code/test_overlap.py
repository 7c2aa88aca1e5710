"""A launch that overlaps the one before it, at its worst: mistakes are planted, and seen found; and the step's launches
wait where they must, whatever they find to do."""

from enum import IntEnum, auto
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from lerac_fast._native.extension import extension
from lerac_fast._native.launches import launches_apart
from lerac_fast.optim import Adam
from tests.kernels import NUMBERS_ON_DEVICE
from tools.gpu_code.emulated import OLD_DEVICE, EmulatedDevice

pytestmark = pytest.mark.gpu_code

COUNT = 600  # three blocks


class Waits(IntEnum):
    """Where the planted kernel does; tools/cuda_emulation/planted.cu has the same."""

    BEFORE_IT = 0
    AFTER_READING = auto()
    AFTER_WRITING = auto()
    NOWHERE = auto()
    IN_SOME_BLOCKS = auto()


class Planted(NamedTuple):
    y: Tensor
    z: Tensor


def plant(device: EmulatedDevice, waits: Waits) -> Planted:
    """y = x + 1 by one launch and z = x + y by the next, where x = 1."""
    x, y, z = torch.ones(COUNT), torch.zeros(COUNT), torch.zeros(COUNT)
    device.plant("overlap", x, y, z, COUNT, waits)
    return Planted(y, z)


ENDS = "a kernel on stream 0 of device 0 ends before it has waited for the launch before it"
USES = "a kernel on stream 0 of device 0 uses what the launch before it may still work on"


def test_who_waits_sees_everything(device: EmulatedDevice) -> None:
    y, z = plant(device, Waits.BEFORE_IT)
    assert device.faults == []
    assert [launch.overlaps for launch in device.launches] == [False, True]
    assert torch.equal(y, torch.full((COUNT,), 2.0))
    assert torch.equal(z, torch.full((COUNT,), 3.0))


@pytest.mark.parametrize(("waits", "faults"), [(Waits.AFTER_READING, [USES]), (Waits.NOWHERE, [USES, ENDS])])
def test_who_reads_before_that_sees_nothing(device: EmulatedDevice, waits: Waits, faults: list[str]) -> None:
    """The first thread, if all wait afterwards; every thread, if none does."""
    y, z = plant(device, waits)
    assert device.faults == faults
    assert z.isnan().sum() == (COUNT if waits == Waits.NOWHERE else 1)
    assert torch.equal(y, torch.full((COUNT,), 2.0))  # in the end


def test_who_writes_before_that_changes_what_the_other_reads(device: EmulatedDevice) -> None:
    y, _ = plant(device, Waits.AFTER_WRITING)
    assert device.faults == [USES]
    assert (y == 0).sum() == 1


def test_a_block_that_does_not_wait(device: EmulatedDevice) -> None:
    """It has nothing to do, but what comes next would begin too early."""
    plant(device, Waits.IN_SOME_BLOCKS)
    assert device.faults == [ENDS]


@pytest.mark.parametrize("waits", [Waits.BEFORE_IT, Waits.NOWHERE])
def test_what_does_not_overlap_needs_no_wait(device: EmulatedDevice, waits: Waits) -> None:
    with launches_apart():
        _, z = plant(device, waits)
    assert device.faults == []
    assert not any(launch.overlaps for launch in device.launches)
    assert torch.equal(z, torch.full((COUNT,), 3.0))


# ---- the step ----

with_numbers_of_the_device = pytest.mark.skipif(
    not NUMBERS_ON_DEVICE, reason="about kernels that read what only a device knows"
)
KINDS = {(64, False): "prepare", (256, True): "update"}
"""By the threads of a block and whether the launch overlaps the one before it: no other kind is right."""


def optimizer(sizes: list[int], decays: int = 1) -> Adam:
    """Of a group per tensor; so many weight decays take turns."""
    params = [nn.Parameter(torch.ones(size)) for size in sizes]
    for param in params:
        param.grad = torch.ones_like(param)
    groups = [{"params": [param], "weight_decay": 0.1 * (i % decays)} for i, param in enumerate(params)]
    return Adam(groups, lr=torch.tensor(0.1), fused=True)


def launched(device: EmulatedDevice, stepping: Adam) -> list[str]:
    before, overlapping = len(device.launches), extension.overlapping_launches()
    stepping.step()
    launches = device.launches[before:]
    assert extension.overlapping_launches() - overlapping == sum(launch.overlaps for launch in launches)
    return [KINDS[launch.threads, launch.overlaps] for launch in launches]


@with_numbers_of_the_device
def test_only_the_update_behind_prepare_overlaps(device: EmulatedDevice) -> None:
    """Where a step takes several of either, too: one updates 818 tensors of Adam, and prepares 1,019, or 255 of which
    each has other numbers than the one before. Steps of empty tensors are counted, and nothing follows."""
    assert launched(device, optimizer([5000, 3])) == ["prepare", "update"]
    assert launched(device, optimizer([1] * 1000)) == ["prepare", "update", "prepare", "update"]
    assert launched(device, optimizer([1] * 300, decays=7)) == ["prepare", "prepare", "update"]
    assert launched(device, optimizer([0, 0])) == ["prepare"]
    assert device.faults == []


@with_numbers_of_the_device
@pytest.mark.parametrize("overflows", [False, True])
def test_every_block_waits(device: EmulatedDevice, overflows: bool) -> None:
    """Even where there is nothing to do, as after an overflow."""
    stepping = optimizer([5000, 3])
    stepping.step()
    stepping.found_inf = torch.tensor(float(overflows))
    stepping.grad_scale = torch.tensor(1.0)
    assert launched(device, stepping) == ["prepare", "update"]
    assert device.faults == []
    assert {float(state["step"]) for state in stepping.state.values()} == {1.0 if overflows else 2.0}


@with_numbers_of_the_device
def test_what_was_made_for_older_devices_does_not_overlap(device: EmulatedDevice) -> None:
    device.set_device_of_tensors(OLD_DEVICE)
    device.set_device(OLD_DEVICE)
    stepping = optimizer([5000, 3])
    before = extension.overlapping_launches()
    stepping.step()
    assert [launch.threads for launch in device.launches] == [64, 256]  # prepare, update
    assert extension.overlapping_launches() == before
    assert device.faults == []
