"""Trials made shorter by one option."""

from pathlib import Path

import pytest

from experiments.tests.trials.helpers import digits_trial, record_of, run
from lerac_experiments.cli import main
from lerac_experiments.data.source import Request
from lerac_experiments.plans.check import check
from lerac_experiments.plans.scaling import scaled
from lerac_experiments.presets import PRESETS
from lerac_experiments.trials.manifest import Manifest


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("scale", [0.02, 1e-6])
def test_ratios_to_the_epochs_stay(preset: str, scale: float) -> None:
    for trial in PRESETS[preset]():
        short = scaled(trial, scale)
        check(short)
        before, after = trial.settings, short.settings
        assert after.epochs == min(before.epochs, max(2, round(scale * before.epochs)))
        for name in ("lerac_epochs", "cbs_every"):
            assert getattr(after, name) / after.epochs == pytest.approx(getattr(before, name) / before.epochs)
        assert short.protocol.share == pytest.approx(scale * trial.protocol.share)
        assert (short.model, short.data, short.regime, short.seed) == (
            trial.model,
            trial.data,
            trial.regime,
            trial.seed,
        )
        assert short.protocol.milestones == trial.protocol.milestones, "they are shares of the epochs"


def test_of_one_nothing_changes() -> None:
    trial = digits_trial(train_examples=100, warm_up_epochs=1.0)
    assert scaled(trial, 1.0) == trial
    assert scaled(trial, 1.0).id == trial.id


@pytest.mark.parametrize(
    ("request_", "count", "train", "test"),
    [
        (Request(), 1000, 1000, 1000),
        (Request(share=0.05), 1000, 50, 50),
        (Request(share=1e-6), 1000, 10, 10),
        (Request(share=1e-6), 7, 7, 7),
        (Request(share=0.05, train_examples=30, test_examples=70), 1000, 30, 50),
        (Request(train_examples=30, test_examples=7), 1000, 30, 7),
    ],
)
def test_how_many_are_drawn(request_: Request, count: int, train: int, test: int) -> None:
    assert (request_.to_train(count), request_.to_test(count)) == (train, test)


def test_a_scaled_plan_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["plan", str(tmp_path), "--models", "resnet-small", "--data", "digits", "--epochs", "50", "--scale", "0.05"]
    assert main([*args, "--lerac-epochs", "5", "--seeds", "1", "--regimes", "lerac"]) == 0
    assert "share: 0.05" in " ".join(capsys.readouterr().out.split())
    (trial,) = Manifest.read(tmp_path)
    assert (trial.settings.epochs, trial.settings.lerac_epochs) == (2, 0.2)
    assert run(tmp_path) == 0
    record = record_of(tmp_path, trial)
    assert record["sizes"] == {"train": 65, "validation": 7, "test": 18}, "a twentieth of 1,437 and of 360"
    assert [epoch["active"] for epoch in record["epochs"]] == [0, 0]


@pytest.mark.parametrize(("scale", "message"), [("0", "above 0 and at most 1, got 0"), ("1.5", "at most 1, got 1.5")])
def test_a_scale_that_makes_no_sense_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scale: str, message: str
) -> None:
    with pytest.raises(SystemExit):
        main(["plan", str(tmp_path), "--preset", "table2", "--scale", scale])
    assert message in " ".join(capsys.readouterr().err.replace("│", "").split())
