"""The regimes of training that the experiments compare: which schedules drive rates and feature maps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from lerac_fast import CBS, LeRaC

MOMENTUM = 0.9  # of SGD, in all regimes
WEIGHT_DECAY = 5e-4


@dataclass(frozen=True)
class Schedule:
    """What the regimes of one comparison have in common; iterations are optimizer steps."""

    total_iters: int
    """The length of the training."""
    lerac_iters: int
    """k, the length of LeRaC."""
    min_lr: float
    """LeRaC's initial rate at the greatest depth."""
    cbs_every: int
    """Iterations after which CBS narrows its Gaussian by a tenth."""


class Stepped(Protocol):
    """A scheduler or a curriculum, to be stepped after every optimizer step."""

    def step(self) -> None: ...


Regime = Callable[[nn.Module, Optimizer, Schedule], list[Stepped]]
"""Prepares one training run and returns what drives it."""


def step_decay(optimizer: Optimizer, total_iters: int) -> MultiStepLR:
    """Divides the learning rate by 10 at 60% and at 85% of the training."""
    return MultiStepLR(optimizer, [round(0.6 * total_iters), round(0.85 * total_iters)], gamma=0.1)


def conventional(_: nn.Module, optimizer: Optimizer, schedule: Schedule) -> list[Stepped]:
    """All layers at the base rate, under `step_decay`."""
    return [step_decay(optimizer, schedule.total_iters)]


def lerac(model: nn.Module, optimizer: Optimizer, schedule: Schedule) -> list[Stepped]:
    """As conventional, with LeRaC on top: deeper layers start lower, and all are equal from step k on."""
    return [
        *conventional(model, optimizer, schedule),
        LeRaC(optimizer, total_iters=schedule.lerac_iters, min_lr=schedule.min_lr),
    ]


def cbs(model: nn.Module, optimizer: Optimizer, schedule: Schedule) -> list[Stepped]:
    """As conventional, with feature maps smoothed by a Gaussian of sigma 1 that narrows to nothing."""
    return [*conventional(model, optimizer, schedule), CBS(model, every=schedule.cbs_every)]


def cbs_and_lerac(model: nn.Module, optimizer: Optimizer, schedule: Schedule) -> list[Stepped]:
    """Both curricula on one model (Croitoru et al., "Learning Rate Curriculum", Table 5)."""
    return [*lerac(model, optimizer, schedule), CBS(model, every=schedule.cbs_every)]


REGIMES: dict[str, Regime] = {
    "conventional": conventional,
    "LeRaC": lerac,
    "CBS": cbs,
    "CBS + LeRaC": cbs_and_lerac,
}
