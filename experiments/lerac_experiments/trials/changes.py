"""Whether what a trial was planned with, of one's own, is still the same."""

from functools import partial
from pathlib import Path

from lerac_experiments.data.registry import find_data
from lerac_experiments.errors import Unavailable
from lerac_experiments.models.registry import find_model
from lerac_experiments.own_code.source import digest
from lerac_experiments.trials.trial import Trial


class Changed(Unavailable):
    """The source of the model, or the content of the data, is another one. Changed back, the trial can be run."""


def similarity_content(trial: Trial) -> str | None:
    """The fingerprint of the file with the similarities of classes; None, if there is none."""
    path = trial.protocol.class_similarity
    return None if path is None or not Path(path).is_file() else digest(Path(path))


def require_unchanged(trial: Trial) -> None:
    """Raises Changed if the model's source or the data have changed since the trial was planned. It says what to do."""
    model, data = find_model(trial.model).fingerprint, find_data(trial.data).fingerprint
    for what, planned, fingerprint in (
        (f"the source of {trial.model}", trial.model_source, model),
        (f"the data {trial.data}", trial.data_content, data),
        (
            f"the file {trial.protocol.class_similarity}",
            trial.similarity_content,
            partial(similarity_content, trial),
        ),
    ):
        if planned is None or fingerprint is None or (found := fingerprint()) in (None, planned):
            continue
        raise Changed(
            f"{what} has changed since the trial was planned (from {planned[:8]} to {found[:8]}), so that this would "
            "be another trial: plan into another folder, or undo the change"
        )
