"""What presets are made of: combinations of models, data sets, regimes and seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from lerac_experiments.models import MODELS
from lerac_experiments.settings import Protocol
from lerac_experiments.trials.trial import Trial

RUNS = 5  # Croitoru et al.: means of five runs
DCL_RUNS = 3  # Saxena et al.: of three

SIGMA_BOUNDS = 0.05, 20.0  # of temperatures, in the code of Saxena et al.

CURRICULA = ("conventional", "cbs", "lerac")


def trials_of(
    models: Sequence[str],
    data: Sequence[str],
    regimes: Sequence[str],
    seeds: Iterable[int],
    protocol: Protocol | None = None,
    **settings: Any,
) -> list[Trial]:
    """Every combination, seeds last in order: so that the first rows of all tables are there early.

    Args:
        settings: in place of those of the models.
    """
    return [
        Trial(model, name, regime, seed, replace(MODELS[model].settings, **settings), protocol or Protocol())
        for seed, model, name, regime in product(seeds, models, data, regimes)
    ]
