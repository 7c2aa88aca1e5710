"""The networks: shapes and the order of their layers."""

import pytest
import torch

from experiments.tests.models.samples import CLASSES, parts_of
from lerac_experiments.models import MODELS, ResNet
from lerac_fast import layer_groups


@pytest.mark.parametrize(
    ("shape", "classes", "stem_stride"),
    [((2, 1, 28, 28), 10, 2), ((3, 1, 8, 8), 10, 1), ((2, 3, 32, 32), 7, 1)],
)
def test_shapes(shape: tuple[int, ...], classes: int, stem_stride: int) -> None:
    model = ResNet(shape[1], classes, stem_stride=stem_stride)
    assert model(torch.randn(shape)).shape == (shape[0], classes)


@pytest.mark.parametrize("blocks", [1, 2])
def test_layers_on_the_main_path(blocks: int) -> None:
    model = ResNet(1, 10, widths=(4, 8), blocks=blocks)
    groups = layer_groups(model, example_inputs=torch.randn(1, 1, 8, 8))
    assert max(group["depth"] for group in groups) == 2 * 2 * blocks + 2
    assert groups[0]["name"] == "stem"
    assert groups[-1]["name"] == "head"


def test_every_parameter_is_used() -> None:
    model = ResNet(1, 10, widths=(4, 8))
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(("width", "stem_stride"), [(8, 1), (28, 2)])
def test_the_small_one_fits_its_images(width: int, stem_stride: int) -> None:
    images = torch.randn(2, 3, width, width)
    model = MODELS["resnet-small"].make(parts_of(images), None)
    assert isinstance(model, ResNet)
    assert model(images).shape == (2, CLASSES)
    assert len(model.stages) == 3
    assert model.stem.stride == (stem_stride, stem_stride)
    assert model.stem.weight.is_contiguous(memory_format=torch.channels_last)
