"""What DataParameters refuses: bad options and bad batches, before anything has changed."""

import math

import pytest
import torch

from lerac_fast import DataParameters
from tests.data_parameters.batches import CLASSES, INSTANCES, assert_same_bits, moved, random_batch, tables


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "give num_classes, num_instances or both"),
        ({"num_classes": 0}, ValueError, "num_classes=0"),
        ({"num_instances": -3}, ValueError, "num_instances=-3"),
        ({"num_classes": 2.0}, TypeError, r"num_classes must be an integer, not 2\.0"),
        ({"num_classes": True}, TypeError, "num_classes must be an integer, not True"),
        ({"num_instances": "10"}, TypeError, "num_instances must be an integer, not '10'"),
        ({"num_classes": 3, "class_lr": -0.1}, ValueError, r"class_lr=-0\.1"),
        ({"num_classes": 3, "class_lr": None}, TypeError, "class_lr must be a number, not None"),
        ({"num_classes": 3, "instance_lr": math.inf}, ValueError, "instance_lr=inf"),
        ({"num_classes": 3, "instance_lr": "0.1"}, TypeError, "instance_lr must be a number, not '0.1'"),
        ({"num_classes": 3, "momentum": 1.0}, ValueError, r"momentum=1\.0 must be in \[0, 1\)"),
        ({"num_classes": 3, "momentum": math.nan}, ValueError, "momentum=nan"),
        ({"num_classes": 3, "weight_decay": -1e-4}, ValueError, "weight_decay=-0.0001"),
        ({"num_classes": 3, "class_sigma": 0.0}, ValueError, r"class_sigma=0\.0 must be in \(0, inf\)"),
        ({"num_classes": 3, "instance_sigma": -1}, ValueError, "instance_sigma=-1"),
        ({"num_classes": 3, "label_smoothing": 1.5}, ValueError, r"label_smoothing=1\.5"),
        ({"num_classes": 3, "ignore_index": 1.0}, TypeError, r"ignore_index must be an integer, not 1\.0"),
        ({"num_classes": 3, "class_gradient": "mean"}, ValueError, "'class_mean' or 'batch_mean', not 'mean'"),
        ({"num_classes": 3, "clamp": (2.0, 1.0)}, ValueError, r"clamp=\(2\.0, 1\.0\)"),
        ({"num_classes": 3, "clamp": (0.0, 1.0)}, ValueError, r"clamp=\(0\.0, 1\.0\)"),
        ({"num_classes": 3, "clamp": 20.0}, TypeError, r"clamp must be a pair of numbers or None, not 20\.0"),
        ({"num_classes": 3, "clamp": (1.0, "2")}, TypeError, "clamp must be a pair"),
        ({"num_classes": 3, "weight": [1.0, 1.0, 1.0]}, TypeError, "weight must be a tensor, not list"),
        ({"num_classes": 3, "weight": torch.ones(4)}, ValueError, r"weight .* \[3\], not torch.float32 of shape \[4\]"),
        ({"num_instances": 3, "weight": torch.ones(4).long()}, ValueError, r"weight .*, not torch.int64"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        DataParameters(**options)


LOGITS, TARGETS, INDICES = torch.zeros(3, CLASSES), torch.tensor([0, 4, 1]), torch.tensor([0, 11, 3])


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ((LOGITS, TARGETS, torch.tensor([0, 12, 3])), ValueError, "indices must be from 0 to 11, not 12"),
        ((LOGITS, TARGETS, torch.tensor([0, -1, 3])), ValueError, "indices must be from 0 to 11, not -1"),
        ((LOGITS, TARGETS, INDICES.int()), ValueError, "indices must be int64 .* not torch.int32"),
        ((LOGITS, TARGETS, INDICES.float()), ValueError, "indices must be int64 .* not torch.float32"),
        ((LOGITS, TARGETS, INDICES[:2]), ValueError, "2 indices do not match 3 targets"),
        ((LOGITS, TARGETS, INDICES[:1]), ValueError, "1 indices do not match 3 targets"),
        ((LOGITS, TARGETS, INDICES.unsqueeze(1)), ValueError, r"indices .* shape \[3, 1\]"),
        ((LOGITS, TARGETS, [0, 1, 2]), TypeError, "indices must be a tensor, not list"),
        ((LOGITS, TARGETS), ValueError, "indices are missing"),
        ((LOGITS, torch.tensor([0, 5, 1]), INDICES), ValueError, "targets must be from 0 to 4, not 5"),
        ((LOGITS, torch.tensor([0, -1, 1]), INDICES), ValueError, "targets must be from 0 to 4, not -1"),
        ((LOGITS, TARGETS.int(), INDICES), ValueError, "targets must be int64 .* not torch.int32"),
        ((LOGITS, TARGETS[:2], INDICES), ValueError, "2 targets do not match 3 logits"),
        ((LOGITS, LOGITS, INDICES), ValueError, r"targets .* not torch.float32 of shape \[3, 5\]"),
        ((LOGITS, 1, INDICES), TypeError, "targets must be a tensor, not int"),
        ((LOGITS[:, :4], TARGETS, INDICES), ValueError, r"logits .*, 5\], not torch.float32 of shape \[3, 4\]"),
        ((LOGITS[0], TARGETS, INDICES), ValueError, r"logits .* of shape \[5\]"),
        ((LOGITS.long(), TARGETS, INDICES), ValueError, "logits .*, not torch.int64"),
        ((None, TARGETS, INDICES), TypeError, "logits must be a tensor, not NoneType"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"weight": torch.ones(CLASSES)}])
def test_bad_batches_are_refused_and_nothing_has_changed(batch, error, message, options):
    criterion, expected = moved(**options), moved(**options)
    for target in (criterion, expected):
        target(*random_batch(0, 4)).backward()
    with pytest.raises(error, match=message):
        criterion(*batch)
    criterion.step()
    expected.step()
    assert_same_bits(tables(criterion), tables(expected))


@pytest.mark.parametrize("method", ["sigma", "temperatures"])
def test_bad_rows_are_refused(method):
    ask = getattr(moved(), method)
    for rows, message in [
        ((), "targets are missing"),
        ((TARGETS,), "indices are missing"),
        ((TARGETS, INDICES[:2]), "2 indices do not match 3 targets"),
        ((TARGETS, INDICES + 1), "indices must be from 0 to 11, not 12"),
        ((TARGETS - 1, INDICES), "targets must be from 0 to 4, not -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            ask(*rows)


def test_targets_are_checked_without_classes_too():
    criterion = DataParameters(num_instances=INSTANCES)
    with pytest.raises(ValueError, match="targets must be from 0 to 4, not 5"):
        criterion(LOGITS, torch.tensor([0, 5, 1]), INDICES)
    with pytest.raises(ValueError, match="1 indices do not match 3 targets"):
        criterion(LOGITS, TARGETS, INDICES[:1])
