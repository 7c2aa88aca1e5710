"""Experiments on learning curricula: planned, run by any number of processes, resumed, and reported."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerac_experiments.settings import Protocol, Settings
from lerac_experiments.trials.manifest import Manifest
from lerac_experiments.trials.trial import Trial

if TYPE_CHECKING:
    from lerac_experiments.comparison import compare as compare

__all__ = ["Manifest", "Protocol", "Settings", "Trial", "compare", "run_trial"]


def __getattr__(name: str) -> Any:
    """`compare` is imported when it is asked for: it loads the models and pandas, which those who plan need not."""
    if name == "compare":
        from lerac_experiments.comparison import compare

        return compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run_trial(folder: Path, trial_id: str, **options: Any) -> str:
    """Runs one trial of a manifest, for schedulers that call functions.

    Args:
        options: as of `lerac-fast run`: threads, device, workers, keep_weights, ...

    Returns:
        What became of it: "done", "failed", "unavailable", "done before", "failed before" or "run elsewhere".

    Raises:
        ExperimentError: there is no manifest, or no such trial in it.
    """
    from lerac_experiments.commands.run import run_one  # it loads the models, which those who plan need not

    return run_one(folder, trial_id, **options)
