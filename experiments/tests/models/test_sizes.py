"""The networks are those of the papers: numbers of parameters and layers."""

import pytest
import torch
from torch import nn

from experiments.tests.models.samples import parts_of, sample_parts, text
from lerac_experiments.models import MODELS
from lerac_experiments.models.septr import SepTr
from lerac_fast import CBS


def _built(name: str, inputs: torch.Tensor | None = None) -> nn.Module:
    """On the meta device, without weights."""
    parts = sample_parts(MODELS[name].kinds[0]) if inputs is None else parts_of(inputs)
    with torch.device("meta"):
        return MODELS[name].build(parts, None)


def _millions(model: nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


@pytest.mark.parametrize(
    ("name", "millions", "layers", "sites"),
    [
        ("resnet18", 11.17, 18, 17),
        ("wide-resnet50", 66.83, 50, 17),
        ("wrn-28-10", 36.48, 26, 25),  # 28 with the two shortcuts in a row with the others
        ("wrn-16-2", 0.69, 14, 13),
        ("vgg16", 14.73, 14, 13),
        ("densenet121", 6.95, 121, 59),
        ("cvt13", 19.61, 17, 42),
        ("lenet", 0.06, 5, 2),
    ],
)
def test_images(name: str, millions: float, layers: int, sites: int) -> None:
    images = torch.zeros(2, 3, 32, 32)
    model = _built(name, images)
    assert _millions(model) == pytest.approx(millions, abs=0.01)
    groups = MODELS[name].groups(model, images.to("meta"))
    assert max(group["depth"] for group in groups) == layers
    assert len(CBS(model, where=MODELS[name].smoothing).sites) == sites


def test_bert_large() -> None:
    """335 million with 30522 word pieces; here there are 50."""
    model = _built("bert-large")
    assert _millions(model) == pytest.approx(335.1 - (30522 - 50) * 1024 / 1e6, abs=0.1)
    groups = MODELS["bert-large"].groups(model, {name: t.to("meta") for name, t in text().items()})
    blocks = [f"bert.encoder.layer.{i}" for i in range(24)]
    assert [group["name"] for group in groups] == ["bert.embeddings", *blocks, "bert.pooler.dense", "head"]
    assert [group["depth"] for group in groups] == list(range(1, 28))
    assert CBS(model, where=MODELS["bert-large"].smoothing).sites == tuple(blocks)


def test_ssd_on_the_last_map_comes_last() -> None:
    model = _built("ssd")
    assert _millions(model) == pytest.approx(24.0, abs=0.1)
    assert len(CBS(model, where=MODELS["ssd"].smoothing).sites) == 18


def test_septr_grows_with_the_sides_of_the_input() -> None:
    def count(height: int, width: int) -> int:
        model = SepTr((1, height, width), nn.Linear(8, 2), dim=8, depth=3, heads=1, head_dim=8, mlp_dim=8)
        return sum(parameter.numel() for parameter in model.parameters())

    assert count(20, 30) - count(10, 30) == 10 * 8 * 3
    assert count(10, 50) - count(10, 30) == 20 * 8 * 3


def test_small_images_keep_their_resolution() -> None:
    small, large = (_built("resnet18", torch.zeros(2, 1, side, side)) for side in (95, 96))
    assert small.conv1.stride == (1, 1)
    assert large.conv1.stride == (2, 2)
    assert isinstance(small.maxpool, nn.Identity)
    assert isinstance(large.maxpool, nn.MaxPool2d)
