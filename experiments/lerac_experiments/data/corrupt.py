"""Wrong labels on purpose: noise as in the papers on learning with noisy labels."""

import random

import torch
from torch import Tensor

from lerac_experiments.errors import ExperimentError


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
    generator = _generator("wrong labels", seed)
    count = round(noise * len(labels))
    if not 0 < count < len(labels):
        raise ExperimentError(f"noise={noise:g} makes {count} of {len(labels)} labels wrong; some must be, and not all")
    chosen = torch.randperm(len(labels), generator=generator)[:count]
    shifts = torch.randint(1, classes, (count,), generator=generator)
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + shifts) % classes
    return noisy, noisy != labels


def _generator(purpose: str, seed: int) -> torch.Generator:
    """A stream of numbers of its own. The order of training is a permutation drawn from the plain seed: one more from
    the same stream would be the same permutation, and the wrong labels the first to be trained on."""
    return torch.Generator().manual_seed(random.Random(f"{purpose}, {seed}").getrandbits(63))
