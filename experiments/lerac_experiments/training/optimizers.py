"""The optimizers that trials train with."""

from typing import Any

from torch.optim import Optimizer

from lerac_experiments.trials.trial import Trial
from lerac_fast import optim


def optimizer_for(trial: Trial, groups: list[dict[str, Any]]) -> Optimizer:
    """The optimizer of a trial's settings, of lerac_fast."""
    settings = trial.settings
    options: dict[str, Any] = {}
    if settings.optimizer == "SGD":
        options = {"momentum": settings.momentum, "nesterov": trial.protocol.nesterov}
    kind: type[Optimizer] = getattr(optim, settings.optimizer)
    return kind(groups, lr=settings.lr, weight_decay=settings.weight_decay, **options)  # type: ignore[call-arg]
