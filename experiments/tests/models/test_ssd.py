"""The detectors: targets in training, detections in evaluation, and layers."""

import pytest
import torch
from torch import nn
from torchvision.models.detection.ssd import SSD

from experiments.tests.models.samples import Images, sample_parts, two_examples
from lerac_experiments.models import MODELS


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return MODELS["ssd-small"].build(sample_parts("detection"), None)


def test_is_torchvisions(model: nn.Module) -> None:
    """So that lerac_fast.data_parameters.detection serves it."""
    assert isinstance(model, SSD)


def test_detections(model: nn.Module) -> None:
    images = Images().__getitems__([0, 1]).inputs
    detections = model.eval()(images)
    assert len(detections) == 2
    assert all({"boxes", "labels", "scores"} <= detection.keys() for detection in detections)


def test_learns_where_a_box_is(model: nn.Module) -> None:
    images, targets, _ = two_examples(sample_parts("detection"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        loss = torch.stack(list(model(images, targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_the_heads_come_after_the_maps_that_they_read(model: nn.Module) -> None:
    groups = MODELS["ssd-small"].groups(model, two_examples(sample_parts("detection")).inputs)
    depth = {group["name"]: group["depth"] for group in groups}
    for number in range(3):
        of_map = depth[f"backbone.stages.{number}.0"]
        for kind in ("classification", "regression"):
            assert depth[f"head.{kind}_head.module_list.{number}"] == of_map + 1
