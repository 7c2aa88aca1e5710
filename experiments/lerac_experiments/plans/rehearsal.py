"""Trials of models or data of one's own, tried before they are planned: a training step each, so that faults show."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from lerac_experiments.data.examples import Batch
from lerac_experiments.data.registry import find_data
from lerac_experiments.data.source import Parts
from lerac_experiments.errors import ExperimentError, Unavailable
from lerac_experiments.models.registry import find_model, source_files
from lerac_experiments.own_code.functions import told
from lerac_experiments.training.distributed import Ranks
from lerac_experiments.training.preparation import parts_of, prepared
from lerac_experiments.training.runner import Machine, Runner
from lerac_experiments.trials.trial import Trial
from lerac_fast.cbs.sites import find_sites

EXAMPLES = 4

_NO_SITES = "CBS has nothing to smooth"


def rehearse(trials: Iterable[Trial]) -> list[str]:
    """Tries a trial of each model, data set and regime, where the model or the data are not this package's.

    Returns:
        What is to be known of them.

    Raises:
        ExperimentError: a model cannot be built on the data, takes no step, or gives what the task has no use for.
    """
    by_place: dict[tuple[str, str], dict[str, Trial]] = {}
    for trial in trials:
        if find_model(trial.model).usual is not None or find_data(trial.data).fingerprint is not None:
            by_place.setdefault((trial.model, trial.data), {}).setdefault(trial.regime, trial)
    return [_rehearse(list(regimes.values())) for regimes in by_place.values()]


def _rehearse(trials: Sequence[Trial]) -> str:
    """Of one model and data set, under different regimes."""
    first = trials[0]
    spec = find_model(first.model)
    weights: Path | None = None
    try:
        if spec.pretrained is not None:
            weights = spec.pretrained()
        parts = parts_of(first, spec, weights)
    except Unavailable as error:
        if weights is None and spec.pretrained is not None and spec.usual is not None:
            raise  # it may be that there is no such model at all
        return f"{first.model} was not tried: {error}"  # the trials may be run on another machine
    random = torch.get_rng_state()
    try:
        with _told(first):
            models = []
            for _ in range(2):
                torch.manual_seed(0)
                models.append(spec.make(parts, weights))
            _check_weights(first, *models)
            _check_outputs(first, models[0], parts)
        runners = [_take_a_step(trial) for trial in trials]
    finally:
        torch.set_rng_state(random)
    return _described(first, runners[0])


def _check_weights(trial: Trial, model: nn.Module, again: nn.Module) -> None:
    for (name, weights), others in zip(model.named_parameters(), again.parameters(), strict=True):
        if not torch.equal(weights, others):
            raise ExperimentError(
                f"{trial.model}: the initial weights {name} differ between two calls after the same torch.manual_seed, "
                "and regimes are to start from the same: draw them by torch alone"
            )


def _check_outputs(trial: Trial, model: nn.Module, parts: Parts) -> None:
    """Of a classification and of a regression."""
    if parts.task == "detection":
        return
    batch = _few(parts)
    with torch.no_grad():
        outputs = model.eval()(batch.inputs)
    values = parts.task == "regression"
    wanted = (len(batch.indices),) if values else (len(batch.indices), parts.classes)
    found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if found != wanted:
        what = "a value for each example" if values else "the logits of the classes for each example"
        raise ExperimentError(f"{_place(trial)}: the model must give {what}, {list(wanted)}, and gives {found}")


def _take_a_step(trial: Trial) -> Runner:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with _told(trial):
            runner = prepared(trial, Machine(Ranks()))
            runner.rehearse(_few(runner.parts))
    if any(_NO_SITES in str(warning.message) for warning in warned):
        raise ExperimentError(
            f"{trial.model}: {_NO_SITES}: there are neither convolutions wider than 1, nor blocks of a transformer, "
            f"nor recurrent layers. Leave {trial.regime} out, or give the model an attribute `smoothing`, as the "
            "argument `where` of lerac_fast.CBS"
        )
    return runner


def _described(trial: Trial, runner: Runner) -> str:
    groups = runner.optimizer.param_groups
    layers = len({group["depth"] for group in groups})
    parameters = sum(parameter.numel() for parameter in runner.model.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sites = len(find_sites(runner.model, find_model(trial.model).sites(runner.model)))
    return (
        f"{trial.model} on {trial.data}: {parameters:,} parameters in {layers} layers, from {groups[0]['name']} to "
        f"{groups[-1]['name']}; CBS smooths after {sites} of its modules."
    )


@contextmanager
def _told(trial: Trial) -> Iterator[None]:
    """What a model raises, whatever it is, is said with its place in the model's source."""
    try:
        yield
    except ExperimentError:
        raise
    except Exception as error:
        raise ExperimentError(f"{_place(trial)}: {told(error, source_files(trial.model))}") from error


def _few(parts: Parts) -> Batch:
    return parts.train.__getitems__(list(range(min(EXAMPLES, len(parts.train)))))


def _place(trial: Trial) -> str:
    return f"{trial.model} on {trial.data}, {trial.regime}"
