"""What tests of trials share."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from experiments.tests.trials.helpers import digits_trial
from lerac_experiments.data import registry
from lerac_experiments.data.audio_augmentation import mix_up
from lerac_experiments.data.source import Parts, Request
from lerac_experiments.models import MODELS
from lerac_experiments.training import preparation
from lerac_experiments.trials.trial import Trial


@pytest.fixture
def random_trial(monkeypatch: pytest.MonkeyPatch) -> Trial:
    """A trial that draws numbers in every step: of a model with dropout, on examples that are mixed."""
    spec, digits = MODELS["lenet"], registry.DATA["digits"]

    def build(parts: Parts, folder: Path | None) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Dropout(0.2), spec.build(parts, folder))

    def load(request: Request) -> Parts:
        return replace(digits.load(request), mix=partial(mix_up, classes=10))

    monkeypatch.setitem(MODELS, "lenet", replace(spec, build=build))
    monkeypatch.setitem(registry.DATA, "digits", replace(digits, load=load))
    monkeypatch.setattr(preparation, "_loaded", preparation._loaded.__wrapped__)  # without what it remembers
    return replace(digits_trial(), model="lenet")
