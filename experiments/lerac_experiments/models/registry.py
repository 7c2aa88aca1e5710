"""Models by what is said of them: the names of this package's, those of libraries, and functions of one's own."""

from lerac_experiments.errors import ExperimentError
from lerac_experiments.models import MODELS
from lerac_experiments.models.spec import ModelSpec

FORMS = "FILE.py:FUNCTION, package.module:FUNCTION, timm:NAME, torchvision:NAME or transformers:NAME"
"""Of models that are not this package's."""


def find_model(spec: str) -> ModelSpec:
    """The model that a text stands for. Nothing of it is imported yet.

    Raises:
        ExperimentError: nothing is called so, nor is it of one of the `FORMS`.
    """
    if spec in MODELS:
        return MODELS[spec]
    raise ExperimentError(f"model {spec!r} is unknown: choose one of {', '.join(MODELS)}; or give {FORMS}")
