"""`python -m tools.gpu_code.first_step`: what Triton compiles before a model's first training step, and for how long.

For sm_90, on one core and without a GPU. Triton keeps what it has compiled on disk; here that is left out.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision import models
from triton import knobs

from lerac_fast import CBS, DataParameters, Tokens, layer_groups
from lerac_fast._native.triton import register_triton
from lerac_fast.optim import AdamW
from tools.gpu_code.targets import TARGETS
from tools.gpu_code.triton_launches import compiling_for, launches_of, warm_up

CLASSES, EXAMPLES = 10, 64


Case = tuple[nn.Module, Tensor, dict[str, Tokens] | None]
"""A model, a batch, and where CBS smooths it: None for its convolutions."""


def _resnet(layout: torch.memory_format, size: int) -> Case:
    model = models.resnet18(num_classes=CLASSES).to(memory_format=layout)
    return model, torch.rand(2, 3, size, size).contiguous(memory_format=layout), None


def _densenet() -> Case:
    return models.densenet121(num_classes=CLASSES), torch.rand(2, 3, 224, 224), None


def _transformer() -> Case:
    model = models.VisionTransformer(64, 16, 4, 3, 192, 384, num_classes=CLASSES)
    where = {r"encoder\.layers\.encoder_layer_\d+": Tokens(grid=(4, 4), class_tokens=1)}
    return model, torch.rand(2, 3, 64, 64), where


MODELS = {
    "ResNet-18, images of 32": partial(_resnet, torch.contiguous_format, 32),
    "ResNet-18, images of 224": partial(_resnet, torch.contiguous_format, 224),
    "ResNet-18, images of 224, channels_last": partial(_resnet, torch.channels_last, 224),
    "DenseNet-121, images of 224": _densenet,
    "a vision transformer of 4 blocks": _transformer,
}


def _step_of(model: nn.Module, inputs: Tensor, where: dict[str, Tokens] | None) -> Callable[[], None]:
    """A training step with AdamW, a group for each layer, CBS and temperatures of classes and examples."""
    CBS(model, sigma=1.0, where=where)  # its hooks hold it
    optimizer = AdamW(layer_groups(model, example_inputs=inputs), lr=1e-3)
    criterion = DataParameters(num_classes=CLASSES, num_instances=EXAMPLES, instance_lr=0.2)
    targets = indices = torch.tensor([1, 2])

    def step() -> None:
        optimizer.zero_grad()
        criterion(model(inputs), targets, indices).backward()
        optimizer.step()
        criterion.step()

    return step


def main() -> None:
    table = Table(title="Before the first step with Triton's kernels")
    for column in ("model", "launches a step", "kernels compiled", "seconds"):
        table.add_column(column, justify="left" if column == "model" else "right")
    library = register_triton(torch.device("cpu"), asynchronous=True)
    for name, make in MODELS.items():
        launches = launches_of(_step_of(*make()))
        with tempfile.TemporaryDirectory() as folder, knobs.cache.scope(), compiling_for(TARGETS["sm_90"]):
            knobs.cache.dir = folder
            for launch in launches:
                launch.kernel.device_caches.clear()
            begin = time.perf_counter()
            kernels = {warm_up(launch, TARGETS["sm_90"]).hash for launch in launches}
            seconds = time.perf_counter() - begin
        table.add_row(name, str(len(launches)), str(len(kernels)), f"{seconds:.1f}")
    del library
    Console().print(table)


if __name__ == "__main__":
    main()
