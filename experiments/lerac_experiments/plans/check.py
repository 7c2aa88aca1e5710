"""What can be found wrong with a trial before it is run."""

from pathlib import Path

from lerac_experiments.data.registry import DATA, find_data
from lerac_experiments.data.source import DataSet
from lerac_experiments.errors import ExperimentError
from lerac_experiments.models.registry import find_model
from lerac_experiments.options import NOT_NEGATIVE, POSITIVE, Range, find, shown
from lerac_experiments.settings import Protocol
from lerac_experiments.training.phases import SMOOTHING
from lerac_experiments.training.regimes import REGIMES, Regime
from lerac_experiments.trials.trial import Trial

RANGES = {
    "lr": POSITIVE,
    "min_lr": POSITIVE,
    "batch_size": Range(1),
    "epochs": Range(1),
    "lerac_epochs": NOT_NEGATIVE,
    "sigma": NOT_NEGATIVE,
    "decay": Range(0, 1, above=True),
    "cbs_every": POSITIVE,
    "momentum": Range(0, 1, below=True),
    "weight_decay": NOT_NEGATIVE,
    "train_examples": Range(10),
    "test_examples": Range(1),
    "share": Range(0, 1, above=True),
    "image_size": Range(1),
    "seconds": Range(0.1),
    "milestones": Range(0, 1, above=True, below=True),
    "step_factor": Range(0, 1, above=True),
    "plateau_patience": NOT_NEGATIVE,
    "stop_patience": Range(1),
    "label_noise": Range(0, 1, below=True),
    "class_lr": NOT_NEGATIVE,
    "instance_lr": NOT_NEGATIVE,
    "sigma_bounds": POSITIVE,
    "label_epsilon": Range(0, 1, above=True, below=True),
    "warm_up_epochs": NOT_NEGATIVE,
}
"""Of the numbers among the settings and the protocol, by their names; of each number, where there are several."""


def check(trial: Trial) -> None:
    """Finds what can be found wrong with a trial before it is run.

    Raises:
        ExperimentError: a name is unknown, a value makes no sense, or what is asked for does not go together. The
            message names the option and its value.
    """
    spec, data = find_model(trial.model), find_data(trial.data)
    regime = find(REGIMES, trial.regime, "regime")
    spec.check_takes(data)
    if spec.smoothing == () and SMOOTHING in regime.phases:
        raise ExperimentError(f"{trial.regime} smooths feature maps, and {trial.model} has none")
    _check_ranges(trial)
    _check_pairs(trial)
    if regime.temperatures and not spec.temperatures:
        raise ExperimentError(
            f"{trial.regime} divides the logits of classes that exclude each other, and {trial.model} judges each by "
            "itself: choose ssd, say"
        )
    _check_data(trial, data, regime)
    _check_phases(trial, regime)


def _check_ranges(trial: Trial) -> None:
    for name, value in (*vars(trial.settings).items(), *vars(trial.protocol).items()):
        allowed = RANGES.get(name)
        if allowed is None or value is None:
            continue
        for number in value if isinstance(value, tuple) else (value,):
            if number not in allowed:
                raise ExperimentError(f"{name} must be {allowed.told(number)}, got {shown(value)}")


def _check_pairs(trial: Trial) -> None:
    """What two options say together."""
    settings, protocol, usual = trial.settings, trial.protocol, Protocol()
    if settings.min_lr > settings.lr:
        raise ExperimentError(f"min_lr must be at most lr, got min_lr={settings.min_lr:g} and lr={settings.lr:g}")
    if list(protocol.milestones) != sorted(set(protocol.milestones)):
        raise ExperimentError(f"milestones must rise, as shares of the epochs, got {shown(protocol.milestones)}")
    steps = protocol.milestones, protocol.step_factor
    if protocol.schedule != "steps" and steps != (usual.milestones, usual.step_factor):
        raise ExperimentError(f"milestones and step_factor are for schedule=steps, and it is {protocol.schedule}")
    if protocol.sigma_bounds is not None and not protocol.sigma_bounds[0] <= 1.0 <= protocol.sigma_bounds[1]:
        raise ExperimentError(
            "sigma_bounds must be the lowest and the highest temperature, with 1, at which they start, between them, "
            f"got {shown(protocol.sigma_bounds)}"
        )
    if protocol.nesterov and (settings.optimizer != "SGD" or settings.momentum == 0.0):
        raise ExperimentError(
            f"nesterov is for SGD with momentum, and {trial.model} is trained by {settings.optimizer} with "
            f"momentum {settings.momentum:g}"
        )
    if protocol.initializer != "own" and find_model(trial.model).has_trained_weights:
        raise ExperimentError(f"initializer={protocol.initializer} is for random weights, and {trial.model} has others")
    if protocol.class_similarity is not None and not Path(protocol.class_similarity).is_file():
        raise ExperimentError(f"class_similarity={protocol.class_similarity} is no file")
    if protocol.noise_free and protocol.label_noise == 0.0:
        raise ExperimentError("noise_free is for trials with label_noise")


def _check_data(trial: Trial, data: DataSet, regime: Regime) -> None:
    """What the data is not made for."""
    protocol = trial.protocol
    task = "a regression" if data.regression else data.kind
    if data.kind == "detection" and trial.regime == "lerac-snr":
        raise ExperimentError(f"{trial.data}: images of various sizes make no batch to measure {trial.regime} with")
    if protocol.augment_images and data.kind != "image":
        raise ExperimentError(f"augment_images is for images, and {trial.data} is {data.kind}")
    if protocol.seconds is not None and data.kind != "audio":
        raise ExperimentError(f"seconds is for recordings, and {trial.data} is {task}")
    if protocol.mosaic and data.kind != "detection":
        raise ExperimentError(f"mosaic is for detection, and {trial.data} is {task}")
    if protocol.by_speaker and not data.by_speaker:
        able = ", ".join(name for name, each in DATA.items() if each.by_speaker)
        raise ExperimentError(f"by_speaker is for {able}, and the data is {trial.data}")
    if protocol.label_noise and (data.regression or data.kind == "detection"):
        raise ExperimentError(f"label_noise is for classification, and {trial.data} is {task}")
    if regime.kinds is not None and data.kind not in regime.kinds:
        raise ExperimentError(f"{trial.regime} is for {' and '.join(regime.kinds)}s, and {trial.data} is {data.kind}")
    if regime.classifies and (data.regression or data.kind == "detection"):
        raise ExperimentError(f"{trial.regime} is for classification, and {trial.data} is {task}")
    if regime.temperatures and data.regression:
        raise ExperimentError(f"{trial.regime} divides logits by temperatures, and {trial.data} is {task}")
    if regime.temperatures and data.mixes and protocol.augment and protocol.mix_up:
        raise ExperimentError(
            f"{trial.regime} cannot train on mixed examples, which have no temperatures of their own: leave --mix-up "
            f"out, and no regime on {trial.data} mixes"
        )


def _check_phases(trial: Trial, regime: Regime) -> None:
    for phase in regime.phases:
        if phase.must_end and phase.outlasts(trial, trial.settings.epochs):
            raise ExperimentError(
                f"{phase.title} would not end before the training does: {phase.option}={phase.epochs(trial):g} must be "
                f"below epochs={trial.settings.epochs}, for a training within it says nothing of {trial.regime}"
            )
