"""A data set with some of its labels made wrong."""

import copy
from dataclasses import replace

import torch
from torch import Tensor

from lerac_experiments.data.corrupt import corrupt_labels
from lerac_experiments.data.examples import Batch, Examples
from lerac_experiments.data.source import Parts
from lerac_experiments.errors import ExperimentError


def with_wrong_labels(parts: Parts, noise: float, seed: int) -> tuple[Parts, Tensor]:
    """`parts` with a share of the labels, of training and validation alike, made wrong; test labels stay right.

    Returns:
        The parts, which share their inputs with those given; and which training labels are wrong, bool [N].

    Raises:
        ExperimentError: the task is no classification, or the share makes none or all labels wrong.
    """
    if parts.task != "classification":
        raise ExperimentError(f"label_noise={noise:g} is for classification, and this is {parts.task}")
    train, corrupt = _relabelled(parts.train, parts.classes, noise, seed)
    validation, _ = _relabelled(parts.validation, parts.classes, noise, seed + 1)
    return replace(parts, train=train, validation=validation), corrupt


def _relabelled(examples: Examples, classes: int, noise: float, seed: int) -> tuple[Examples, Tensor]:
    assert examples.labels is not None
    relabelled = copy.copy(examples)
    relabelled.labels, corrupt = corrupt_labels(examples.labels, classes, noise, seed)
    return relabelled, corrupt


class Chosen(Examples):
    """Some of the examples, numbered anew.

    Args:
        chosen: bool [N] of `examples`.
    """

    def __init__(self, examples: Examples, chosen: Tensor) -> None:
        self._examples = examples
        self._numbers = chosen.nonzero().flatten()
        self.labels = None if examples.labels is None else examples.labels[self._numbers]

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitems__(self, indices: list[int]) -> Batch:
        self._examples.epoch = self.epoch
        batch = self._examples.__getitems__(self._numbers[indices].tolist())
        return batch._replace(indices=torch.tensor(indices))
