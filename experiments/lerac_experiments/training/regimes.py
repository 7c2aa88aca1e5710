"""The regimes of training that trials compare.

A regime is a list of ingredients. Each is told of every optimizer step, and may change the rates, the model and the
loss. To add one, write an `Ingredient`, and a line in `REGIMES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from lerac_experiments.data.examples import Batch, Examples, Inputs
from lerac_experiments.data.source import Parts
from lerac_experiments.errors import ExperimentError
from lerac_experiments.training.distributed import Ranks
from lerac_experiments.training.phases import LERAC, SMOOTHING, SMOOTHING_WINDOW, WARM_UP, Phase
from lerac_experiments.trials.trial import Trial
from lerac_fast import CBS, DataParameters, LeRaC
from lerac_fast.cbs.sites import Where
from lerac_fast.data_parameters.detection import TemperedAnchors

SNR_EXAMPLES = 64
"""How many training examples the signal-to-noise ratio is measured with."""

WARM_UP_START = 1e-3
"""The share of the base rate that warm-up starts from."""


@dataclass(frozen=True)
class Setup:
    """What the ingredients of a regime are made for."""

    trial: Trial
    model: nn.Module
    optimizer: Optimizer
    parts: Parts
    smoothing: Where | None
    """Where CBS acts on this model."""
    steps_per_epoch: int
    ranks: Ranks

    def first_inputs(self, count: int) -> Inputs:
        """Of so many training examples, for what is measured before the training."""
        batch = self.parts.train.__getitems__(list(range(min(count, len(self.parts.train)))))
        return batch.to(self.ranks.device).inputs

    def steps(self, epochs: float) -> int:
        """So many epochs in optimizer steps."""
        return round(epochs * self.steps_per_epoch)


class Ingredient:
    """One ingredient of a regime. It does nothing; those that do override what they need."""

    decides_rates = False
    """Whether it takes the place of the decay of the trial's protocol."""
    kept: Any = None
    """What a checkpoint keeps of it, by its `state_dict` and `load_state_dict`; None, nothing."""

    def agree(self, ranks: Ranks) -> None:
        """Goes on from what the first rank has measured. Called once all are built: while they are, one might wait for
        another that has failed."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor | None:  # noqa: ARG002
        """What is minimised; None, the loss of the task."""
        return None

    def on_step(self) -> None:
        """An optimizer step is done."""

    def on_mode(self, training: bool) -> None:
        """Training or evaluation begins."""

    @property
    def active(self) -> bool:
        """Whether it still keeps the training from what it would be without it, so that its plateaus are none."""
        return False

    def trace(self) -> dict[str, float]:
        """What is recorded of it after each epoch."""
        return {}

    def wrong_found(self, examples: Examples, wrong: Tensor) -> float | None:  # noqa: ARG002
        """The share of the wrong labels, of which there are some, that it has found out by itself; None if it does not
        look for them.

        Args:
            wrong: which labels of the training examples are, bool [N].
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on."""
        return {} if self.kept is None else self.kept.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        if self.kept is not None:
            self.kept.load_state_dict(state)


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


class Smoothing(Ingredient):
    """Curriculum by smoothing, narrowed by optimizer steps: `cbs_every` may be a part of an epoch."""

    def __init__(self, setup: Setup) -> None:
        settings = setup.trial.settings
        every = max(1, setup.steps(settings.cbs_every))
        self.kept = self.smoothing = CBS(
            setup.model, settings.sigma, settings.decay, every, SMOOTHING_WINDOW, where=setup.smoothing
        )

    def on_step(self) -> None:
        self.smoothing.step()

    def trace(self) -> dict[str, float]:
        return {"sigma": self.smoothing.sigma if self.smoothing.active else 0.0}


class Temperatures(Ingredient):
    """Learned temperatures of classes, of examples (of boxes, in detection), or of both."""

    def __init__(self, setup: Setup, *, classes: bool, instances: bool) -> None:
        protocol, settings = setup.trial.protocol, setup.trial.settings
        detection = setup.parts.task == "detection"
        if setup.parts.task == "regression":
            raise ExperimentError(f"data parameters divide logits, and {setup.trial.data} is a regression")
        count = getattr(setup.parts.train, "boxes", None) if detection else len(setup.parts.train)
        device = next(setup.model.parameters()).device
        self.kept = self.criterion = DataParameters(
            setup.parts.classes if classes else None,
            count if instances else None,
            class_lr=protocol.class_lr,
            instance_lr=protocol.instance_lr,
            # For detection the paper has neither.
            momentum=0.0 if detection else 0.9,
            weight_decay=0.0 if detection else settings.weight_decay,
            clamp=protocol.sigma_bounds,
        ).to(device)
        self._detection = detection
        if detection:
            detector: Any = setup.model
            detector.compute_loss = TemperedAnchors(detector.compute_loss, self.criterion)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor | None:
        if self._detection:  # the detector computes its own
            return None
        assert isinstance(batch.targets, Tensor)
        loss: Tensor = self.criterion(outputs, batch.targets, batch.indices.to(outputs.device))
        return loss

    def on_step(self) -> None:
        self.criterion.step()

    def on_mode(self, training: bool) -> None:
        self.criterion.train(training)

    def wrong_found(self, examples: Examples, wrong: Tensor) -> float | None:
        """By the highest temperatures, as many as there are wrong labels."""
        table = self.criterion.instance_log_sigma
        if table is None or examples.labels is None:
            return None
        numbers = torch.arange(len(examples), device=table.device)
        sigma = self.criterion.sigma(examples.labels.to(table.device), numbers).cpu()
        return float(wrong[sigma.topk(int(wrong.sum())).indices].double().mean())


@dataclass(frozen=True)
class Regime:
    """A way to train."""

    title: str
    """As in tables."""
    ingredients: tuple[Callable[[Setup], Ingredient], ...] = ()
    phases: tuple[Phase, ...] = ()
    """Those of its ingredients that come to an end."""
    temperatures: bool = False
    """Whether logits are divided by temperatures that are learned."""

    @property
    def mixes(self) -> bool:
        """Whether batches may be mixed: a mixed example has no temperature of its own."""
        return not self.temperatures


def _lerac(curve: str) -> Regime:
    return Regime(f"LeRaC ({curve} update)", (partial(LeRaCRates.between, curve=curve),), (LERAC,))


def _temperatures(kind: str, *, classes: bool, instances: bool) -> Regime:
    learned = partial(Temperatures, classes=classes, instances=instances)
    return Regime(f"data parameters ({kind})", (learned,), temperatures=True)


_EXPONENTIAL = partial(LeRaCRates.between, curve="exponential")

REGIMES: dict[str, Regime] = {
    "conventional": Regime("conventional"),
    "warm-up+cosine": Regime("warm-up + cosine", (WarmUpCosine,), (WARM_UP,)),
    "lerac": Regime("LeRaC", (_EXPONENTIAL,), (LERAC,)),
    "lerac-linear": _lerac("linear"),
    "lerac-logarithmic": _lerac("logarithmic"),
    "lerac-cosine": _lerac("cosine"),
    "lerac-decades": Regime("LeRaC (decades)", (partial(LeRaCRates.between, curve="decades"),), (LERAC,)),
    "lerac-snr": Regime("LeRaC (from SNR)", (LeRaCRates.from_snr,), (LERAC,)),
    "cbs": Regime("CBS", (Smoothing,), (SMOOTHING,)),
    "cbs+lerac": Regime("CBS + LeRaC", (Smoothing, _EXPONENTIAL), (SMOOTHING, LERAC)),
    "dp-class": _temperatures("class", classes=True, instances=False),
    "dp-instance": _temperatures("instance", classes=False, instances=True),
    "dp-joint": _temperatures("joint", classes=True, instances=True),
}
"""By their names on the command line."""
