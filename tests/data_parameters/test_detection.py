"""Data parameters of boxes: on synthetic matches, and on the real boxes of BCCD with torchvision's SSD."""

import io
import os
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.transforms.functional import pil_to_tensor

from lerac_fast import DataParameters
from lerac_fast.data_parameters.detection import TemperedAnchors, anchor_temperatures
from lerac_fast.optim import SGD

LABELS = {"RBC": 1, "WBC": 2, "Platelets": 3}


def targets_of(*images: list[int]) -> list[dict[str, Tensor]]:
    return [{"indices": torch.tensor(ids, dtype=torch.int64), "labels": torch.ones(len(ids)).long()} for ids in images]


def test_anchors_take_the_temperature_of_their_box_and_background_the_mean() -> None:
    criterion = DataParameters(num_instances=10, momentum=0.0, weight_decay=0.0)
    criterion.instance_log_sigma.copy_(torch.arange(1.0, 11.0).log())  # box i has sigma i + 1
    matched = [torch.tensor([0, -1, 1, 0]), torch.tensor([-1, -2, 0, -1])]
    sigma = anchor_temperatures(criterion, targets_of([3, 7], [0]), matched)
    mean = (4 + 8 + 1) / 3
    torch.testing.assert_close(sigma.detach(), torch.tensor([[4.0, mean, 8, 4], [mean, mean, 1, mean]]))

    before = criterion.instance_log_sigma.clone()
    criterion.instance_lr = 0.1
    (sigma * torch.tensor([[1.0, 5, 2, 3], [5, 5, 7, 5]])).sum().backward()
    criterion.step()
    expected = before.clone()
    # d(w sigma)/d(log sigma) = w sigma, summed over the anchors of a box; background passes nothing on.
    expected[[3, 7, 0]] -= 0.1 * torch.tensor([4 * 4.0, 8 * 2.0, 1 * 7.0])
    torch.testing.assert_close(criterion.instance_log_sigma, expected)


def test_images_without_boxes() -> None:
    criterion = DataParameters(num_instances=4)
    sigma = anchor_temperatures(criterion, targets_of([], []), [torch.full((3,), -1)] * 2)
    assert torch.equal(sigma, torch.ones(2, 3))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"labels": torch.ones(2).long()}, r"targets\[0\]: 'indices' are missing, and there are 2 boxes"),
        ({"labels": torch.ones(2).long(), "indices": torch.zeros(1).long()}, r"'indices' are \(1,\), .* 2 boxes"),
        ({"labels": torch.ones(1).long(), "indices": torch.tensor([9])}, "from 0 to 3, not 9"),
    ],
)
def test_bad_input(target, message) -> None:
    criterion = DataParameters(num_instances=4)
    with pytest.raises(ValueError, match=message):
        anchor_temperatures(criterion, [target], [torch.zeros(3).long()])


def _bccd(count: int) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """The first images of the training split with their boxes, numbered throughout."""
    folder = os.environ.get("LERAC_FAST_DATA")
    path = Path(folder or "", "bccd.zip")
    if folder is None or not path.exists():
        pytest.skip("LERAC_FAST_DATA does not name a folder with bccd.zip")
    samples, boxes_so_far = [], 0
    with zipfile.ZipFile(path) as archive:
        split = next(name for name in archive.namelist() if name.endswith("ImageSets/Main/train.txt"))
        root = split.removesuffix("ImageSets/Main/train.txt")
        for name in io.TextIOWrapper(archive.open(split)).read().split()[:count]:
            image = pil_to_tensor(Image.open(io.BytesIO(archive.read(f"{root}JPEGImages/{name}.jpg"))))
            objects = ElementTree.fromstring(archive.read(f"{root}Annotations/{name}.xml")).findall("object")
            corners = ("xmin", "ymin", "xmax", "ymax")
            boxes = torch.tensor(
                [[float(item.findtext(f"bndbox/{corner}", "")) for corner in corners] for item in objects]
            )
            labels = torch.tensor([LABELS[item.findtext("name", "")] for item in objects])
            keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # some annotations are a line
            indices = torch.arange(boxes_so_far, boxes_so_far + int(keep.sum()))
            boxes_so_far += len(indices)
            target = {"boxes": boxes[keep], "labels": labels[keep], "indices": indices}
            samples.append((image / 255, target))
    return samples


@pytest.fixture
def detector() -> torch.nn.Module:
    torch.manual_seed(0)
    return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)


def _losses(detector: torch.nn.Module, samples: list[tuple[Tensor, dict[str, Tensor]]]) -> dict[str, Tensor]:
    images, targets = zip(*samples, strict=True)
    torch.manual_seed(1)  # dropout
    return detector(list(images), [dict(target) for target in targets])


def test_ssd_on_real_boxes(detector) -> None:
    samples = _bccd(12)
    boxes = sum(len(target["indices"]) for _, target in samples)
    assert boxes > 100
    criterion = DataParameters(num_instances=boxes, instance_lr=0.1, momentum=0.0, weight_decay=0.0)
    plain = {name: loss.item() for name, loss in _losses(detector, samples[:4]).items()}
    detector.compute_loss = TemperedAnchors(detector.compute_loss, criterion)

    # With every temperature at 1 the loss is the detector's own; in evaluation mode it always is.
    assert {name: loss.item() for name, loss in _losses(detector, samples[:4]).items()} == pytest.approx(plain)

    optimizer = SGD(detector.parameters(), lr=0.01, momentum=0.9)
    seen = torch.cat([target["indices"] for _, target in samples[:8]])
    first = last = 0.0
    for _ in range(3):
        for batch in (samples[:4], samples[4:8]):
            optimizer.zero_grad()
            loss = sum(_losses(detector, batch).values())
            loss.backward()
            optimizer.step()
            criterion.step()
            first, last = first or loss.item(), loss.item()
    assert last < first
    untouched = torch.ones(boxes, dtype=torch.bool)
    untouched[seen] = False
    assert torch.equal(criterion.instance_sigma[untouched], torch.ones(int(untouched.sum())))
    moved = criterion.instance_sigma[seen]
    assert moved.isfinite().all()
    assert (moved != 1).float().mean() > 0.5
    assert moved.std() > 0, "boxes differ"

    criterion.eval()
    tempered = _losses(detector, samples[:4])
    detector.compute_loss = detector.compute_loss.compute_loss
    assert {k: v.item() for k, v in tempered.items()} == pytest.approx(
        {k: v.item() for k, v in _losses(detector, samples[:4]).items()}
    )


def test_gradients_are_those_of_tempered_anchors() -> None:
    """The classification loss of one positive anchor by hand."""
    criterion = DataParameters(num_instances=2)
    criterion.instance_log_sigma.copy_(torch.tensor([0.5, -0.5]))
    logits = torch.randn(1, 3, 4, requires_grad=True)
    matched = [torch.tensor([1, 0, -1])]
    targets = [{"labels": torch.tensor([2, 3]), "indices": torch.tensor([0, 1])}]

    def compute_loss(_targets, head_outputs, _anchors, _matched_idxs):
        return {"classification": F.cross_entropy(head_outputs["cls_logits"][0], torch.tensor([3, 2, 0]))}

    TemperedAnchors(compute_loss, criterion)(targets, {"cls_logits": logits}, None, matched)[
        "classification"
    ].backward()
    sigmas = torch.tensor([0.5, -0.5]).exp()
    sigma = torch.stack([sigmas[1], sigmas[0], sigmas.mean()])
    expected = torch.autograd.grad(F.cross_entropy(logits[0] / sigma[:, None], torch.tensor([3, 2, 0])), logits)[0]
    torch.testing.assert_close(logits.grad, expected)
