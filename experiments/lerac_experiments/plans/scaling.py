"""Trials made shorter, in all that their length is measured by alike."""

from dataclasses import replace

from lerac_experiments.data.noise import fewest_of
from lerac_experiments.data.source import FEWEST
from lerac_experiments.options import Range
from lerac_experiments.trials.trial import Trial

SCALES = Range(0, 1, above=True)

FEWEST_EPOCHS = 2
"""So that a curriculum can end within the training."""


def scaled(trial: Trial, scale: float) -> Trial:
    """A trial of fewer examples and epochs, by this factor.

    What lasts a number of epochs keeps its share of the training: LeRaC's k, CBS's u, warm-up and patience.

    Args:
        scale: above 0, at most 1.
    """
    settings, protocol = trial.settings, trial.protocol
    epochs = min(settings.epochs, max(FEWEST_EPOCHS, round(scale * settings.epochs)))
    shorter = epochs / settings.epochs
    to_train = protocol.train_examples and _fewer(protocol.train_examples, scale, fewest_of(protocol.label_noise))
    return replace(
        trial,
        settings=replace(
            settings,
            epochs=epochs,
            lerac_epochs=shorter * settings.lerac_epochs,
            cbs_every=shorter * settings.cbs_every,
        ),
        protocol=replace(
            protocol,
            share=scale * protocol.share,
            train_examples=to_train,
            test_examples=protocol.test_examples and _fewer(protocol.test_examples, scale, FEWEST),
            warm_up_epochs=None if protocol.warm_up_epochs is None else shorter * protocol.warm_up_epochs,
            plateau_patience=_fewer(protocol.plateau_patience, shorter, 1),
            stop_patience=protocol.stop_patience and _fewer(protocol.stop_patience, shorter, 1),
        ),
    )


def _fewer(count: int, scale: float, fewest: int) -> int:
    return min(count, max(fewest, round(scale * count)))
