"""The regimes of training that the experiments compare: which schedulers drive the learning rates."""

from collections.abc import Callable
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from lerac_fast import LeRaC


@dataclass(frozen=True)
class Schedule:
    """What the regimes of one comparison have in common; iterations are optimizer steps."""

    total_iters: int
    """The length of the training."""
    lerac_iters: int
    """k, the length of the curriculum."""
    min_lr: float
    """LeRaC's initial rate at the greatest depth."""


Regime = Callable[[Optimizer, Schedule], list[LRScheduler]]
"""Makes the schedulers of one training run; each is to be stepped after every optimizer step."""


def conventional(optimizer: Optimizer, schedule: Schedule) -> list[LRScheduler]:
    """All layers at the base rate, which is divided by 10 at 60% and at 85% of the training."""
    milestones = [round(0.6 * schedule.total_iters), round(0.85 * schedule.total_iters)]
    return [MultiStepLR(optimizer, milestones, gamma=0.1)]


def lerac(optimizer: Optimizer, schedule: Schedule) -> list[LRScheduler]:
    """As conventional, with LeRaC on top: deeper layers start lower, and all are equal from step k on."""
    return [
        *conventional(optimizer, schedule),
        LeRaC(optimizer, total_iters=schedule.lerac_iters, min_lr=schedule.min_lr),
    ]


REGIMES: dict[str, Regime] = {"conventional": conventional, "LeRaC": lerac}
