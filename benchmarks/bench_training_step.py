"""What the curricula cost in a whole training step: forward, backward, optimizer, schedulers.

One interleaved run of the conventional step, LeRaC, CBS by grouped convolution (as its authors do it) and CBS here,
while it is active and once it has retired. Each contender trains its own copy of one model on the same batch.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from benchmarks.bench_gaussian_smooth import SIGMA, depthwise
from lerac_fast import CBS, LeRaC, gaussian_smooth_, layer_groups
from lerac_fast.optim import SGD


def _resnet18_for_cifar() -> nn.Module:
    model = torchvision.models.resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


# Model -> how to make it, batch size, side of the images.
MODELS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "ResNet-18": (_resnet18_for_cifar, 64, 32),
    "Wide-ResNet-50-2": (lambda: torchvision.models.wide_resnet50_2(num_classes=10), 16, 64),
    "DenseNet-121": (lambda: torchvision.models.densenet121(num_classes=10), 16, 64),
}
OPTIONS = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4}


def _convolve_outputs(model: nn.Module) -> None:
    """CBS as its authors do it: a frozen depthwise convolution after every convolution wider than 1."""

    def hook(module: nn.Module, _: object, output: Tensor) -> Tensor:
        if not hasattr(module, "smoothing"):
            module.smoothing = depthwise(output)
        return module.smoothing(output)

    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1:
            module.register_forward_hook(hook)


def contenders(
    initial: nn.Module, images: Tensor, labels: Tensor, precision: AbstractContextManager[object] | None = None
) -> dict[str, Callable[[], object]]:
    """`precision` is that of the forward pass, as of ``torch.autocast``."""
    forward = precision or nullcontext()

    def step(prepare: Callable[[nn.Module], object] | None = None, lerac: bool = False) -> Callable[[], object]:
        model = copy.deepcopy(initial)
        kept = prepare(model) if prepare else None
        optimizer = SGD(layer_groups(model, example_inputs=images) if lerac else model.parameters(), **OPTIONS)
        curriculum = LeRaC(optimizer, total_iters=10**6, min_lr=1e-8) if lerac else None

        def run() -> object:
            optimizer.zero_grad()
            with forward:
                loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            if curriculum is not None:
                curriculum.step()
            return kept  # keeps the CBS alive

        return run

    def smooth(model: nn.Module) -> CBS:
        return CBS(model, sigma=SIGMA, decay=1.0)

    return {
        "conventional": step(),
        "LeRaC": step(lerac=True),
        "CBS": step(smooth),
        "CBS + LeRaC": step(smooth, lerac=True),
        "CBS, retired": step(lambda model: CBS(model, sigma=0.1)),
        "CBS by grouped convolution": step(_convolve_outputs),
    }


def prepare(
    name: str, layout: torch.memory_format, device: str = "cpu", batch: int | None = None
) -> tuple[str, nn.Module, Tensor, Tensor]:
    """The name of the case, a new model, images and labels."""
    make, usual_batch, side = MODELS[name]
    batch = batch or usual_batch
    torch.manual_seed(0)
    model = make().to(device, memory_format=layout)
    images = torch.randn(batch, 3, side, side).to(device).contiguous(memory_format=layout)
    labels = torch.randint(0, 10, (batch,)).to(device)
    case = f"{name}, {batch} x 3 x {side} x {side}, {str(layout)[6:].removesuffix('_format')}"
    return case, model, images, labels


layouts = pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"]
)


@layouts
@pytest.mark.parametrize("name", MODELS)
def bench_training_step(compare, name: str, layout: torch.memory_format) -> None:
    case, model, images, labels = prepare(name, layout)
    # Every step streams the whole model through the caches: a call that is not timed would change nothing.
    compare(case, contenders(model, images, labels), bytes_moved=0, seconds=150.0, warm=False)


@layouts
@pytest.mark.parametrize("name", MODELS)
def bench_smoothing_alone(compare, name: str, layout: torch.memory_format) -> None:
    """What CBS adds to a step, apart from the noise of everything else: the maps of all sites, smoothed twice.

    Once for the forward and once for the backward pass, one map after the other, so that none is still in the caches.
    """
    case, model, images, labels = prepare(name, layout)
    step = contenders(model, images, labels)["conventional"]
    maps: list[Tensor] = []
    for site in CBS(model, sigma=SIGMA, decay=1.0).sites:
        module = model.get_submodule(site)
        module.register_forward_hook(lambda _, __, output: maps.append(output.detach().clone()))
    model(images)
    sigma = torch.tensor(SIGMA, dtype=torch.float64)

    def smooth_all() -> None:
        for _ in range(2):
            for x in maps:
                gaussian_smooth_(x, sigma)

    moved = 4 * sum(x.nbytes for x in maps)
    compare(f"{case}, {len(maps)} maps", {"smoothing": smooth_all, "conventional step": step}, moved, seconds=30.0)


@pytest.mark.parametrize("name", MODELS)
def bench_lerac_alone(compare, name: str) -> None:
    """What LeRaC adds to a step, apart from the noise of everything else: unequal rates, and setting them."""
    make, _, side = MODELS[name]
    model = make()
    groups = layer_groups(model, example_inputs=torch.zeros(2, 3, side, side))
    for param in model.parameters():
        param.grad = torch.full_like(param, 1e-6)
    one, many = SGD(model.parameters(), **OPTIONS), SGD(groups, **OPTIONS)
    many.state = one.state
    curriculum = LeRaC(many, total_iters=10**6, min_lr=1e-8)

    def lerac() -> None:
        many.step()
        curriculum.step()

    compare(f"{name}, {len(groups)} layers", {"optimizer and LeRaC": lerac, "optimizer": one.step}, bytes_moved=0)
