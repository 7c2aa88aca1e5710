"""A data set with some of its labels made wrong on purpose, as in the papers on learning with noisy labels."""

import copy
import itertools
import math
import random
from dataclasses import replace

import torch
from torch import Tensor

from lerac_experiments.data.examples import Batch, Examples
from lerac_experiments.data.source import FEWEST, VALIDATION_SHARE, Parts
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
    train, validation = copy.copy(parts.train), copy.copy(parts.validation)
    train.labels, corrupt = corrupt_labels(parts.train.targets, parts.classes, noise, seed)
    validation.labels, _ = corrupt_labels(parts.validation.targets, parts.classes, noise, seed + 1)
    return replace(parts, train=train, validation=validation), corrupt


def corrupt_labels(labels: Tensor, classes: int, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    """Gives a share of the examples a wrong label, each drawn uniformly from the other classes.

    Exactly `round(noise * N)` examples, drawn without replacement, so that the share of wrong labels is `noise`.
    (Saxena et al. change each label with probability `noise` to a uniformly random class. If the right one is among
    these, then with ten classes a tenth of what they change stays right.)

    Args:
        labels: int64 `[N]`, from 0 to `classes - 1`.
        seed: decides who gets which label.

    Returns:
        The labels, int64 `[N]`, and which of them are wrong, bool `[N]`.

    Raises:
        ExperimentError: no label is left right, or none becomes wrong.
    """
    # A stream of its own: the order of training is drawn from the plain seed, and one more permutation from the same
    # stream would be the same, and the wrong labels the first to be trained on.
    generator = torch.Generator().manual_seed(random.Random(f"wrong labels, {seed}").getrandbits(63))
    count = round(noise * len(labels))
    if not 0 < count < len(labels):
        raise ExperimentError(f"noise={noise:g} makes {count} of {len(labels)} labels wrong; some must be, and not all")
    chosen = torch.randperm(len(labels), generator=generator)[:count]
    shifts = torch.randint(1, classes, (count,), generator=generator)
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + shifts) % classes
    return noisy, noisy != labels


def fewest_to_corrupt(noise: float) -> int:
    """Of how many examples a share can be made wrong, so that of those set aside for validation some are, and not all;
    0 without noise."""
    if not noise:
        return 0
    held_out = next(count for count in itertools.count(2) if 0 < round(noise * count) < count)
    return math.ceil(held_out / VALIDATION_SHARE)


def fewest_of(noise: float) -> int:
    """Examples that are left of a part at least, so that it can be divided, and some of its labels be made wrong."""
    return max(FEWEST, fewest_to_corrupt(noise))


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
