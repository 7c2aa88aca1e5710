"""A trial before its first step."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from lerac_experiments.data.noise import fewest_of
from lerac_experiments.data.registry import find_data
from lerac_experiments.data.source import Parts, Request
from lerac_experiments.models.registry import find_model
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.training.runner import Machine, Runner
from lerac_experiments.trials.changes import require_unchanged
from lerac_experiments.trials.trial import Trial


def prepared(trial: Trial, machine: Machine) -> Runner:
    """A trial whose data is loaded and whose model is built.

    Raises:
        ExperimentError: of any kind; Changed, if it was planned with another source or other data.
    """
    require_unchanged(trial)
    spec, data = find_model(trial.model), find_data(trial.data)
    spec.check_takes(data)
    weights = None if spec.pretrained is None else spec.pretrained()
    return Runner(trial, spec, parts_of(trial, spec, weights), machine, weights)


def parts_of(trial: Trial, spec: ModelSpec, weights: Path | None) -> Parts:
    """The data of a trial; Unavailable, if it cannot be had."""
    return _loaded(trial.data, request_for(trial, spec, weights), trial.data_content)


def request_for(trial: Trial, spec: ModelSpec, weights: Path | None) -> Request:
    """What a trial asks of its data set. Folds go by the seed."""
    protocol = trial.protocol
    return Request(
        augment_seed=trial.seed if protocol.augment else None,
        image_seed=trial.seed if protocol.augment_images else None,
        fold=trial.seed % 5,
        train_examples=protocol.train_examples,
        test_examples=protocol.test_examples,
        share=protocol.share,
        fewest=fewest_of(protocol.label_noise),
        image_size=protocol.image_size,
        seconds=protocol.seconds,
        encoding=None if spec.encoding is None else replace(spec.encoding, folder=weights),
        by_speaker=protocol.by_speaker,
    )


@lru_cache(maxsize=1)  # trials on the same data often follow each other
def _loaded(name: str, request: Request, content: str | None) -> Parts:  # noqa: ARG001 (what is remembered is of it)
    parts: Parts = find_data(name).load(request)
    return parts
