"""The curricula in training on a GPU: what they do there is what they do on the CPU."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from lerac_fast import CBS, DataParameters, LeRaC, layer_groups
from lerac_fast.optim import SGD

pytestmark = pytest.mark.gpu
OPTIONS = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}


def small_resnet(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5).to(dtype)


def batch(device: torch.device, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 3, 32, 32, dtype=torch.float64, generator=generator)
    return images.to(device, dtype), torch.randint(0, 5, (8,), generator=generator).to(device)


def train(
    device: torch.device, prepare: Callable[[nn.Module, Tensor], tuple], steps: int
) -> tuple[list[float], object]:
    """The losses of a float64 model, and what `prepare` has made besides the optimizer."""
    model = small_resnet().to(device)
    images, labels = batch(device)
    optimizer, curriculum = prepare(model, images)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        curriculum.step()
        losses.append(loss.item())
    return losses, curriculum


def with_cbs(model: nn.Module, _: Tensor) -> tuple[SGD, CBS]:
    return SGD(model.parameters(), **OPTIONS), CBS(model, sigma=1.0, decay=0.5, every=1)


def with_lerac(model: nn.Module, images: Tensor) -> tuple[SGD, LeRaC]:
    optimizer = SGD(layer_groups(model, example_inputs=images), **OPTIONS)
    return optimizer, LeRaC(optimizer, total_iters=6, min_lr=1e-6)


@pytest.mark.parametrize("prepare", [with_cbs, with_lerac])
def test_trains_as_on_the_cpu(prepare: Callable[[nn.Module, Tensor], tuple], device: torch.device) -> None:
    """In float64 convolutions differ in their rounding alone; eight steps make the most of it."""
    there, _ = train(device, prepare, steps=8)
    here, _ = train(torch.device("cpu"), prepare, steps=8)
    assert there == pytest.approx(here, rel=1e-7)
    assert there[-1] < there[0]


def test_smoothing_retires(device: torch.device) -> None:
    model = small_resnet().to(device)
    images, _ = batch(device)
    plain = model(images)
    smoothing = CBS(model, sigma=1.0, decay=0.5, every=1)
    assert not torch.allclose(model(images), plain)
    for _ in range(smoothing.retires_at):
        smoothing.step()
    assert not smoothing.active
    torch.testing.assert_close(model(images), plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_smoothing_under_autocast_and_channels_last(dtype: torch.dtype, device: torch.device) -> None:
    model = small_resnet(torch.float32).to(device, memory_format=torch.channels_last)
    images, labels = batch(device, torch.float32)
    smoothing = CBS(model, sigma=1.0)
    optimizer = SGD(model.parameters(), **OPTIONS)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype):
            loss = F.cross_entropy(model(images.contiguous(memory_format=torch.channels_last)), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert smoothing.active
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("class_gradient", ["class_mean", "batch_mean"])
def test_data_parameters(class_gradient: str, device: torch.device) -> None:
    """Temperatures, momentum and loss are those of the CPU, and so is a checkpoint."""
    here = DataParameters(5, 100, class_gradient=class_gradient, clamp=(0.05, 20.0))
    there = copy.deepcopy(here).to(device)
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        logits = torch.randn(16, 5, generator=generator)
        targets = torch.randint(0, 5, (16,), generator=generator)
        indices = torch.randint(0, 100, (16,), generator=generator)
        leaves = logits.clone().requires_grad_(), logits.to(device).requires_grad_()
        losses = here(leaves[0], targets, indices), there(leaves[1], targets.to(device), indices.to(device))
        for criterion, loss in zip((here, there), losses, strict=True):
            loss.backward()
            criterion.step()
        torch.testing.assert_close(losses[1].cpu(), losses[0])
        torch.testing.assert_close(leaves[1].grad.cpu(), leaves[0].grad, rtol=1e-4, atol=1e-6)
        for (name, table), other in zip(here.state_dict().items(), there.state_dict().values(), strict=True):
            assert other.device == device, name
            torch.testing.assert_close(other.cpu(), table, rtol=1e-4, atol=1e-6)
        if step == 2:
            there.load_state_dict(copy.deepcopy(here.state_dict()))
    assert there.instance_sigma.device == device
    assert not torch.equal(
        here.instance_log_sigma, torch.full_like(here.instance_log_sigma, here.instance_log_sigma[0])
    )
