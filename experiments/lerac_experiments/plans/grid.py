"""Trials over a grid of settings, among which a report chooses by the validation part."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lerac_experiments.errors import ExperimentError
from lerac_experiments.options import find
from lerac_experiments.report.records import CONVENTIONAL, OF_CONDITIONS, OF_REGIMES
from lerac_experiments.settings import Protocol, Settings
from lerac_experiments.training.phases import LERAC, SMOOTHING, WARM_UP
from lerac_experiments.training.regimes import REGIMES, Regime
from lerac_experiments.trials.trial import Trial

Grid = Mapping[str, Sequence[Any]]
"""Values to try, by the names of settings."""

_HINTS = {**get_type_hints(Settings), **get_type_hints(Protocol)}

_KNOWN_IN = {
    LERAC: ("min_lr", "lerac_epochs"),
    SMOOTHING: ("sigma", "decay", "cbs_every"),
    WARM_UP: ("warm_up_epochs", "lerac_epochs"),
}
_OF_TEMPERATURES = ("class_lr", "instance_lr", "sigma_bounds")
_OF_TARGETS = ("label_epsilon", "class_similarity")

_OF_EXAMPLES = ("train_examples", "test_examples", "share", "by_speaker")
"""Settings of which the best by validation would be the best of measurements of different examples."""


def parse_grid(words: Sequence[str]) -> Grid:
    """The grid of words such as `lerac-epochs=2,3,5`.

    Raises:
        ExperimentError: no setting is called so, or a value is none of it. The word is named.
    """
    grid: dict[str, list[Any]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        key = name.strip("-").replace("-", "_")
        if not equals or not values:
            raise ExperimentError(f"grid: {word!r} must be a setting and its values, such as lerac-epochs=2,3,5")
        if key not in _HINTS or key in OF_CONDITIONS:
            able = ", ".join(each.replace("_", "-") for each in _HINTS if each not in OF_CONDITIONS)
            raise ExperimentError(f"grid: {word!r}: {name!r} is none of the settings {able}")
        if key in _OF_EXAMPLES:
            raise ExperimentError(
                f"grid: {word!r}: {name!r} decides which examples are trained on, validated or tested, and these must "
                f"be the same in all combinations: give --{key.replace('_', '-')} itself"
            )
        if key in grid:
            raise ExperimentError(f"grid: {name} is given twice")
        grid[key] = [_value(text, _HINTS[key], word) for text in values.split(",")]
    return grid


def expanded(trials: Sequence[Trial], grid: Grid) -> list[Trial]:
    """Each trial with every combination of the values that its regime knows; those of others it keeps."""
    return [combined for trial in trials for combined in (_combinations(trial, grid) if grid else [trial])]


def _combinations(trial: Trial, grid: Grid) -> list[Trial]:
    regime = find(REGIMES, trial.regime, "regime")
    phases = regime.phases
    known = tuple(name for name in grid if _knows(regime, trial.regime, name))
    made = []
    for values in dict.fromkeys(product(*(grid[name] for name in known))):
        chosen = dict(zip(known, values, strict=True))
        if LERAC not in phases and chosen.get("warm_up_epochs", trial.protocol.warm_up_epochs) is not None:
            chosen.pop("lerac_epochs", None)  # which is the length of the warm-up only where that has none of its own
        settings = replace(trial.settings, **{k: v for k, v in chosen.items() if k in vars(trial.settings)})
        protocol = replace(trial.protocol, **{k: v for k, v in chosen.items() if k in vars(trial.protocol)})
        made.append(replace(trial, settings=settings, protocol=protocol, grid=known))
    return list(dict.fromkeys(made))


def _knows(regime: Regime, name: str, setting: str) -> bool:
    """Whether the setting makes a difference to the regime."""
    if setting not in OF_REGIMES:
        return True
    if setting in _OF_TARGETS:
        return regime.classifies
    places = [phase for phase, settings in _KNOWN_IN.items() if setting in settings]
    if places or setting in _OF_TEMPERATURES:
        return any(phase in regime.phases for phase in places) or (setting in _OF_TEMPERATURES and regime.temperatures)
    return name != CONVENTIONAL


def _value(text: str, hint: Any, word: str) -> Any:
    """A value of a setting, by its type."""
    kinds = get_args(hint) if NoneType in get_args(hint) else (hint,)
    for kind in kinds:
        if kind is NoneType and text == "None":
            return None
        if kind is bool and text in ("True", "False"):
            return text == "True"
        if get_origin(kind) is Literal and text in get_args(kind):
            return text
        if kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
    raise ExperimentError(f"grid: {word!r}: {text!r} is no value of it")
