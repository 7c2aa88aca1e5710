"""What a regime does to the first epochs of a training, and for how long."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from lerac_experiments.trials.trial import Trial
from lerac_fast.cbs.cbs import retirement_step

SMOOTHING_WINDOW = 3
"""Of CBS, as in its paper."""


@dataclass(frozen=True)
class Phase:
    """A part of a regime that comes to an end."""

    title: str
    epochs: Callable[[Trial], float]
    """How many, by the trial's settings; infinite if it never ends."""
    option: str
    """The setting that decides."""
    must_end: bool = True
    """Whether a training that ends within it says nothing of the regime. CBS's paper has such trainings, too."""

    def outlasts(self, trial: Trial, epochs: int) -> bool:
        """Whether it leaves nothing of so many epochs. What ends with the last step has not ended before."""
        return self.epochs(trial) >= epochs


def _warm_up_epochs(trial: Trial) -> float:
    given = trial.protocol.warm_up_epochs
    return trial.settings.lerac_epochs if given is None else given


def _smoothed_epochs(trial: Trial) -> float:
    settings = trial.settings
    times = retirement_step(settings.sigma, settings.decay, 1, SMOOTHING_WINDOW, torch.float32)
    return math.inf if times is None else times * settings.cbs_every


BANDWIDTHS = ((0.6, 160 / 224), (0.8, 192 / 224), (1.0, 1.0))
"""Of EfficientTrain: up to which share of the training images have which share of their sides' frequencies (Wang et
al., ICCV 2023, Table 5: 160 and 192 of 224 pixels for 180 and 60 of 300 epochs)."""

LERAC = Phase("LeRaC", lambda trial: trial.settings.lerac_epochs, "lerac_epochs")
WARM_UP = Phase("warm-up", _warm_up_epochs, "warm_up_epochs")
SMOOTHING = Phase("CBS", _smoothed_epochs, "cbs_every", must_end=False)
BANDWIDTH = Phase("low-frequency cropping", lambda trial: BANDWIDTHS[-2][0] * trial.settings.epochs, "epochs")
