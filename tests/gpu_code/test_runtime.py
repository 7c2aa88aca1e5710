"""What would be wrong on a GPU, where work is queued and memory is its own: planted, and seen found; and that the
launches of lerac_fast do nothing of it."""

import gc
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from lerac_fast import gaussian_smooth, gaussian_smooth_, tempered_cross_entropy
from lerac_fast.optim import SGD, Adam
from tests.kernels import NUMBERS_ON_DEVICE
from tools.gpu_code.emulated import STREAMS, EmulatedDevice

pytestmark = pytest.mark.gpu_code

SIDE = 7  # a stream


def new() -> Tensor:
    return torch.zeros(300)


# ---- planted faults ----


def test_no_fault(device: EmulatedDevice) -> None:
    x = new()
    device.plant("add_one", x, 300, 0)
    assert torch.equal(x, torch.ones(300))
    assert device.faults == []


def test_host_memory(device: EmulatedDevice) -> None:
    with device.host_memory():
        x = new()
    device.plant("add_one", x, 300, 0)
    assert device.faults == [
        "a kernel on stream 0 of device 0 uses memory of the host, which is read",
        "a kernel on stream 0 of device 0 uses memory of the host, which is written",
    ]


def test_beyond_the_end(device: EmulatedDevice) -> None:
    x = new()
    device.plant("add_one", x, 301, 0)
    assert device.faults[0] == "a kernel on stream 0 of device 0 uses memory of the host, which is read"


def test_another_stream(device: EmulatedDevice) -> None:
    device.set_stream(SIDE)
    x, y = new(), new()
    device.plant("add_one", x, 300, SIDE)
    assert device.faults == []
    device.plant("add_one", x, 300, 0)
    assert device.faults == ["stream 0 of device 0 uses what stream 7 of device 0 may still work on"]
    device.wait(0, SIDE)
    device.plant("add_one", y, 300, 0)
    device.synchronize()
    device.plant("add_one", y, 300, SIDE)
    assert len(device.faults) == 1


def test_another_device(device: EmulatedDevice) -> None:
    x = new()
    device.synchronize()
    device.set_device(1)
    device.plant("add_one", x, 300, STREAMS)
    assert device.faults == ["stream 0 of device 1 uses memory of device 0"]
    device.synchronize()
    device.plant("add_one", x, 300, SIDE)
    assert device.faults[1:] == ["a launch on stream 7 of device 0 while device 1 is current"]


def test_memory_of_another_device(device: EmulatedDevice) -> None:
    device.set_device_of_tensors(1)
    x = new()
    device.synchronize()
    device.plant("add_one", x, 300, 0)
    assert device.faults == ["stream 0 of device 0 uses memory of device 1"]


@pytest.mark.parametrize("waits", [False, True])
def test_freed_too_early(device: EmulatedDevice, waits: bool) -> None:
    x = new()
    device.wait(SIDE, 0)
    device.plant("add_one", x, 300, SIDE)
    if waits:
        device.wait(0, SIDE)
    del x
    fault = "memory of stream 0 of device 0 is freed while stream 7 of device 0 may still work on it"
    assert device.faults == [fault] * (not waits)


def test_freed_before(device: EmulatedDevice) -> None:
    x = new()
    address = x.data_ptr()
    del x
    device.plant("add_one", address, 300, 0)
    assert device.faults == ["stream 0 of device 0 uses memory that was freed"]


class Operands(NamedTuple):
    x: Tensor
    on_host: Tensor
    device: EmulatedDevice


WAITS: dict[str, Callable[[Operands], object]] = {
    "item": lambda of: of.x[0].item(),
    "copy": lambda of: of.on_host.copy_(of.x),
    "bool": lambda of: bool(of.x.sum() > 0),
    "nonzero": lambda of: of.x.nonzero(),
    "synchronize": lambda of: of.device.synchronize(),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_capture_that_waits(device: EmulatedDevice, wait: Callable[[Operands], object]) -> None:
    x = new()
    with device.host_memory():
        operands = Operands(x, new(), device)
    wait(operands)
    assert device.faults == []
    assert device.synchronizations == 1
    with device.capture():
        wait(operands)
    assert device.faults == ["the host waits for the device while stream 0 of device 0 captures"]


def test_a_launch_that_a_capture_misses(device: EmulatedDevice) -> None:
    x = new()
    device.wait(SIDE, 0)
    with device.capture():
        device.plant("add_one", x, 300, SIDE)
    assert device.faults == [
        "a launch on stream 7 of device 0 while stream 0 of device 0 captures: it is not in the graph"
    ]


# ---- lerac_fast's launches ----


def steps(make: Callable[..., torch.optim.Optimizer], **options: float) -> Callable[[], object]:
    params = [nn.Parameter(torch.randn(size)) for size in (5000, 300, 3)]
    for param in params:
        param.grad = torch.randn_like(param)
    groups = [{"params": [param], "lr": 0.1 / (i + 1)} for i, param in enumerate(params)]
    if NUMBERS_ON_DEVICE:
        for group in groups:
            group["lr"] = torch.tensor(group["lr"])
    optimizer = make(groups, lr=0.1, **options)
    optimizer.step()  # makes the states
    return optimizer.step


def smoothing(device: EmulatedDevice, in_place: bool, size: int) -> Callable[[], object]:
    x = torch.randn(2, 3, 20, 16)
    with device.host_memory():
        sigma = torch.tensor(0.3 * size)
    return lambda: (gaussian_smooth_ if in_place else gaussian_smooth)(x, sigma, size)


def loss(rows: int, reduction: str) -> Callable[[], object]:
    logits, sigma = torch.randn(rows, 17, requires_grad=True), torch.ones(rows, requires_grad=True)
    targets, weight = torch.randint(0, 17, (rows,)), torch.rand(17)
    upstream = torch.ones(rows if reduction == "none" else ())

    def work() -> None:
        found = tempered_cross_entropy(logits, targets, sigma, weight=weight, label_smoothing=0.1, reduction=reduction)
        found.backward(upstream)

    return work


Make = Callable[[EmulatedDevice], Callable[[], object]]
WORK: dict[str, Make] = {
    "Adam": lambda _: steps(Adam),
    "SGD": lambda _: steps(SGD, momentum=0.9),
    "3 x 3": lambda device: smoothing(device, False, 3),
    "3 x 3 in place": lambda device: smoothing(device, True, 3),
    "wide": lambda device: smoothing(device, False, 7),
    "weights on the device": lambda device: smoothing(device, False, 141),
    "loss of each row": lambda _: loss(20, "none"),
    "mean": lambda _: loss(20, "mean"),
    "mean of many rows": lambda _: loss(17_000, "mean"),
}


@pytest.mark.parametrize("make", WORK.values(), ids=WORK)
def test_nothing_is_at_fault(device: EmulatedDevice, make: Make) -> None:
    """On a stream of its own, while another device is the current one; tensors are freed at once; the host waits for
    nothing."""
    device.set_stream(SIDE)
    device.set_device(1)
    work = make(device)
    launches, waits = len(device.launches), device.synchronizations
    work()
    del work
    gc.collect()
    assert device.faults == []
    assert len(device.launches) > launches
    assert device.synchronizations == waits


CAPTURED = WORK if NUMBERS_ON_DEVICE else {name: work for name, work in WORK.items() if name not in ("Adam", "SGD")}


@pytest.mark.parametrize("make", CAPTURED.values(), ids=CAPTURED)
def test_captures(device: EmulatedDevice, make: Make) -> None:
    device.set_stream(SIDE)
    work = make(device)
    with device.capture():
        work()
    assert device.faults == []
