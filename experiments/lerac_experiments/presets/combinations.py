"""What presets are made of: combinations of models, data sets, regimes and seeds."""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from lerac_experiments.data.registry import find_data
from lerac_experiments.data.source import DataSet
from lerac_experiments.models.registry import find_model
from lerac_experiments.models.spec import ModelSpec
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
    specs, sets = {name: find_model(name) for name in models}, {name: find_data(name) for name in data}
    usual = {(model, name): specs[model].settings_for(sets[name], settings) for model, name in product(models, data)}
    sources = {name: _fingerprint(spec) for name, spec in specs.items()}
    contents = {name: _fingerprint(each) for name, each in sets.items()}
    return [
        Trial(
            *(model, name, regime, seed, usual[model, name], protocol or Protocol()),
            model_source=sources[model],
            data_content=contents[name],
        )
        for seed, model, name, regime in product(seeds, models, data, regimes)
    ]


def _fingerprint(found: ModelSpec | DataSet) -> str | None:
    return None if found.fingerprint is None else found.fingerprint()
