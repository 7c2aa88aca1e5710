"""Under torch.amp.GradScaler on a GPU: the scale is divided out, an overflow changes nothing, and nobody waits."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.gpu.test_optimizers import DEVICE_COUNTS
from tests.gpu.twins import Twins, snapshot
from tests.optim.cases import Case, all_cases, assert_equal, groups, typical_cases

pytestmark = pytest.mark.gpu
FLOAT32 = DEVICE_COUNTS[torch.float32]


class Scaled:
    """An optimizer under a GradScaler. `step` has gradients as a scaled loss makes them, and does not wait."""

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device, guard: Callable[[], object]) -> None:
        self.optimizer, self.guard = optimizer, guard
        self.scaler = torch.amp.GradScaler(device.type, init_scale=1024.0)
        self.scaler.scale(torch.ones((), device=device))  # makes the scaler's tensors

    def step(self) -> None:
        with self.guard():
            self.scaler.step(self.optimizer)
            self.scaler.update()


def _dampened(case: Case) -> bool:
    """The host must know whether a first step counts, as the first buffer is not dampened: it waits, that once."""
    return bool(case.options.get("dampening"))


@all_cases
@pytest.mark.parametrize("unscale_first", [False, True])
def test_the_scale_is_divided_out(case: Case, unscale_first: bool, device: torch.device, no_synchronization) -> None:
    twins = Twins(device, torch.float32)
    there, here = case.fused(groups(twins.there)), case.fast(groups(twins.here))
    scaled = Scaled(there, device, no_synchronization)
    for step in range(3):
        twins.new_gradients(scale=1024.0, bucket=step == 1)
        if unscale_first:
            scaled.scaler.unscale_(there)
        if step == 0 and _dampened(case):
            scaled.scaler.step(there)
            scaled.scaler.update()
        else:
            scaled.step()
        here.step()
        twins.assert_equal(there, here, **FLOAT32)
        for param, twin in zip(twins.there, twins.here, strict=True):
            assert_equal(param.grad.cpu(), twin.grad)  # left unscaled, as by torch's own
        for state in there.state.values():
            assert "step" not in state or state["step"].device == param.device


@all_cases
@pytest.mark.parametrize("overflow_at", [0, 1])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_overflow_changes_nothing(case: Case, overflow_at: int, value: float, device: torch.device) -> None:
    """On a first step it may leave a state, but one of zeros: the next step is the first."""
    twins = Twins(device, torch.float32)
    there, here = case.fused(groups(twins.there)), case.fast(groups(twins.here))
    scaler = torch.amp.GradScaler(device.type, init_scale=1024.0)
    scaler.scale(torch.ones((), device=device))
    for step in range(4):
        twins.new_gradients(scale=scaler.get_scale())
        if step == overflow_at:
            twins.there[3].grad[7] = value
            before = [param.detach().clone() for param in twins.there], snapshot(there)
        scaler.step(there)
        scaler.update()
        if step == overflow_at:
            for param, old in zip(twins.there, before[0], strict=True):
                assert_equal(param.detach(), old)
            if step > 0:
                for now, old in zip(snapshot(there), before[1], strict=True):
                    assert_equal(now, old)
            else:
                assert not any(tensor.any() for state in there.state.values() for tensor in state.values())
            assert scaler.get_scale() == 512.0
        else:
            here.step()
            twins.assert_equal(there, here, **FLOAT32)


@typical_cases
def test_scaled_training_under_autocast(case: Case, device: torch.device) -> None:
    """A model that learns, with a scale that starts too high."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4)).to(device)
    x = torch.randn(256, 20, device=device)
    y = x[:, :4].argmax(1)
    optimizer = case.fused(model.parameters(), lr=0.05 if case.name == "SGD" else 0.01, weight_decay=0.0)
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**30, growth_interval=20)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.float16):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(param.isfinite().all() for param in model.parameters())
