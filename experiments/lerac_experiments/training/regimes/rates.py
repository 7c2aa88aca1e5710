"""Ingredients that set learning rates."""

from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from lerac_experiments.training.distributed import Ranks
from lerac_experiments.training.phases import WARM_UP
from lerac_experiments.training.regimes.ingredient import Ingredient, Setup
from lerac_fast import LeRaC

SNR_EXAMPLES = 64
"""How many training examples the signal-to-noise ratio is measured with."""

WARM_UP_START = 1e-3
"""The share of the base rate that warm-up starts from."""


class Rates(Ingredient):
    """A scheduler of learning rates, stepped by optimizer steps."""

    def __init__(self, scheduler: LRScheduler) -> None:
        self.kept = self.scheduler = scheduler

    def on_step(self) -> None:
        self.scheduler.step()


class LeRaCRates(Rates):
    """LeRaC."""

    scheduler: LeRaC

    @classmethod
    def between(cls, setup: Setup, curve: str) -> Ingredient:
        """From the base rate to `min_lr`, geometrically in depth."""
        settings = setup.trial.settings
        iters = setup.steps(settings.lerac_epochs)
        return cls(LeRaC(setup.optimizer, total_iters=iters, min_lr=settings.min_lr, curve=curve))

    @classmethod
    def from_snr(cls, setup: Setup) -> Ingredient:
        """Initial rates as the measured signal-to-noise ratio falls, down to `min_lr` at the last layer."""
        settings = setup.trial.settings
        iters, inputs = setup.steps(settings.lerac_epochs), setup.first_inputs(SNR_EXAMPLES)
        return cls(LeRaC.from_snr(setup.optimizer, iters, setup.model, inputs, settings.min_lr))

    def agree(self, ranks: Ranks) -> None:
        # A signal-to-noise ratio may differ in its last digits from rank to rank, and the weights would drift apart.
        groups = self.scheduler.optimizer.param_groups
        state, lrs = ranks.decide((self.scheduler.state_dict(), [group["lr"] for group in groups]))
        self.scheduler.load_state_dict(state)
        for group, lr in zip(groups, lrs, strict=True):
            group["lr"] = lr

    @property
    def active(self) -> bool:
        return not self.scheduler.finished


class WarmUpCosine(Rates):
    """All layers alike: a linear warm-up, and half a cosine down to 0 at the end of the last epoch."""

    decides_rates = True

    def __init__(self, setup: Setup) -> None:
        settings = setup.trial.settings
        warm_up = max(1, setup.steps(WARM_UP.epochs(setup.trial)))
        rest = max(1, setup.steps(settings.epochs) - warm_up)
        rising = LinearLR(setup.optimizer, WARM_UP_START, total_iters=warm_up)
        falling = CosineAnnealingLR(setup.optimizer, rest)
        super().__init__(SequentialLR(setup.optimizer, [rising, falling], milestones=[warm_up]))
