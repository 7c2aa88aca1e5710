"""The multilayer perceptron for tables."""

import re

import pytest
import torch
from torch import nn

from experiments.tests.models.samples import parts_of
from lerac_experiments.errors import ExperimentError
from lerac_experiments.models import MODELS
from lerac_experiments.plans.check import check
from lerac_experiments.trials.trial import Trial
from lerac_fast import LeRaC, optim

SPEC = MODELS["mlp"]


def test_layers_and_rates() -> None:
    parts = parts_of(torch.randn(8, 5))
    model = SPEC.make(parts, None)
    batch = parts.train.__getitems__([*range(8)])
    groups = SPEC.groups(model, batch.inputs)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert [group["name"] for group in groups if group["name"] in linear] == linear
    optimizer = optim.AdamW(groups, lr=SPEC.settings.lr)
    LeRaC(optimizer, total_iters=5, min_lr=SPEC.settings.min_lr)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates[0] == pytest.approx(SPEC.settings.lr)
    assert rates == sorted(rates, reverse=True)
    assert model(batch.inputs).shape == (8, parts.classes)


def test_values_are_predicted_in_their_own_units() -> None:
    parts = parts_of(torch.randn(8, 5), "regression")
    parts.train.targets = torch.linspace(1000.0, 1700.0, 8)
    torch.manual_seed(0)
    values = SPEC.make(parts, None)(torch.randn(8, 5))
    assert values.shape == (8,)
    assert ((values > 0) & (values < 3000)).all()
    parts.train.targets = torch.full((8,), 3.0)
    assert torch.allclose(SPEC.make(parts, None)(torch.randn(8, 5)), torch.tensor(3.0), atol=1e-6)


@pytest.mark.parametrize("regime", ["cbs", "cbs+lerac"])
def test_smoothing_is_refused(regime: str) -> None:
    with pytest.raises(ExperimentError, match=re.escape(f"{regime} smooths feature maps, and mlp has none")):
        check(Trial("mlp", "table:a.csv", regime, 0, SPEC.settings))
    with pytest.raises(ExperimentError, match="mlp takes table data, and digits is image"):
        check(Trial("mlp", "digits", "lerac", 0, SPEC.settings))
