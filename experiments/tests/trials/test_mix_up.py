"""Mix-up is the same for all regimes that are compared."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.tests.trials.helpers import planned, record_of, run
from lerac_experiments.trials.trial import Trial


def test_temperatures_that_cannot_move_change_nothing(tmp_path: Path, random_trial: Trial) -> None:
    """But for rounding. Mixed, conventional training is another one."""
    unmoved = replace(random_trial.protocol, class_lr=0.0, instance_lr=0.0, mix_up=False)
    trials = [
        replace(random_trial, regime=regime, protocol=unmoved) for regime in ("conventional", "dp-class", "dp-joint")
    ]
    folder = planned(tmp_path, *trials, random_trial)
    assert run(folder) == 0
    conventional, *others, mixed = (
        [epoch["train_loss"] for epoch in record_of(folder, trial)["epochs"]] for trial in (*trials, random_trial)
    )
    for other in others:
        assert other == pytest.approx(conventional, rel=2e-4)
    assert mixed != pytest.approx(conventional, rel=2e-4)
