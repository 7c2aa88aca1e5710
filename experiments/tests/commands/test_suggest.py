"""lerac-fast suggest: what is proposed for what was measured, and that the printed command plans it."""

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from experiments.tests.trials.helpers import digits_trial
from lerac_experiments.cli import main
from lerac_experiments.commands.suggest import Proposal, RangeTest, propose, range_test, rising_rates
from lerac_experiments.training.distributed import Ranks
from lerac_experiments.training.preparation import prepared
from lerac_experiments.training.runner import Machine
from lerac_experiments.trials.manifest import Manifest
from lerac_fast.lerac.snr import Decay

FALLING = RangeTest([1e-4, 1e-3, 1e-2, 1e-1, 1.0], [2.3, 2.2, 1.5, 1.0, 1.4], rises=True)
FLAT = RangeTest([1e-4, 1e-3], [2.3, 2.3])


def proposed(
    tested: RangeTest = FALLING, decay: Decay | None = None, layers: int = 4, steps: int = 100, **given: Any
) -> dict[str, Proposal]:
    trial = digits_trial(epochs=20, **given)
    runner: Any = SimpleNamespace(steps_per_epoch=steps, model=nn.Sequential(nn.Conv2d(1, 1, 3)))
    made = propose(trial, runner, tested, decay, layers, frozenset(given))
    return {each.setting: each for each in made}


def test_the_rate_is_a_tenth_of_the_one_of_the_lowest_loss() -> None:
    rate = proposed()["lr"]
    assert rate.value == 0.01
    assert "a tenth of 0.1, where the loss is lowest" in rate.reason
    assert "fell by 57%, and beyond 1 it rises" in rate.reason
    usual = proposed(FLAT)["lr"]
    assert usual.value == digits_trial().settings.lr
    assert "the loss did not fall in 2 steps" in usual.reason


@pytest.mark.parametrize(
    ("rate_of_decay", "decades", "said"),
    [
        (1.0, 5, "falls by a factor of 55 over 4 layers"),  # 1.7 decades
        (3.0, 7, "falls by a factor of"),
        (0.2, 3, "falls by a factor of 2 over"),
        (-0.5, 3, "does not fall with depth (-0.50 per layer, r² = 0.90), which is what LeRaC is for: expect little"),
    ],
)
def test_min_lr_follows_the_signal_to_noise_ratio(rate_of_decay: float, decades: int, said: str) -> None:
    least = proposed(decay=Decay(rate_of_decay, 10.0, 0.9))["min_lr"]
    assert least.value == pytest.approx(0.01 * 10.0**-decades)
    assert said in least.reason


def test_without_a_measure_min_lr_is_the_papers() -> None:
    least = proposed(decay=None)["min_lr"]
    assert least.value == pytest.approx(1e-9)
    assert "make no batch to measure with" in least.reason


def test_k_is_a_share_of_the_epochs_and_some_steps() -> None:
    falls, rises = Decay(1.0, 10.0, 0.9), Decay(-1.0, 10.0, 0.9)
    assert proposed(decay=falls)["lerac_epochs"].value == 2.0
    assert proposed(decay=rises)["lerac_epochs"].value == 1.0
    short = proposed(decay=falls, steps=10)["lerac_epochs"]
    assert short.value == 5.0
    assert "That is 50 steps" in short.reason
    few = proposed(decay=falls, steps=1)["lerac_epochs"]
    assert few.value == 8.0, "at most 40% of 20 epochs"
    assert "8 steps, which is few: train for more epochs" in few.reason


def test_what_is_given_is_left_alone() -> None:
    made = proposed(decay=Decay(1.0, 10.0, 0.9), lr=0.5, lerac_epochs=3.0)
    assert (made["lr"].value, made["lerac_epochs"].value) == (0.5, 3.0)
    assert made["min_lr"].value == pytest.approx(0.5e-5)
    assert made["lr"].reason == "as given"


def test_the_range_test_ends_where_the_loss_rises() -> None:
    trial = digits_trial()
    rates = rising_rates(trial.settings, 40)
    assert (rates[0], rates[-1]) == (pytest.approx(1e-7), pytest.approx(10.0))
    torch.manual_seed(0)
    tested = range_test(trial, prepared(trial, Machine(Ranks())), rates)
    assert tested.rises
    assert tested.fall > 0.02
    assert tested.rates == rates[: len(tested.losses)]


def test_the_command_that_it_prints_plans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own net.py").write_text(
        "from torch import nn\n\ndef make(classes):\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))\n"
    )
    options = ["--train-examples", "100", "--no-augment", "--epochs", "10", "--stop-patience", "None"]
    assert main(["suggest", "own net.py:make", "digits", "--steps", "30", "--draws", "1", *options]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "lerac-fast plan" in line]
    assert len(lines) == 2
    # After the comparison that the README begins with.
    assert main(["plan", "runs/mine", "--models", "own net.py:make", "--data", "digits", "--seeds", "1"]) == 0
    for line in lines:
        words = shlex.split(line[line.index("lerac-fast plan") :])
        assert main([*words[1:], "--seeds", "1"]) == 0
    compared, grid = (Manifest.read(Path("runs") / name) for name in ("suggested", "suggested-grid"))
    assert [trial.regime for trial in compared] == ["conventional", "lerac", "cbs"]
    assert {(t.protocol.stop_patience, t.protocol.augment, t.settings.epochs) for t in compared} == {(None, False, 10)}
    assert len(grid) == 1 + 3 * 2 + 1


def test_wrong_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suggest", "lstm-small", "digits"]) == 1
    assert "lstm-small takes text data, and digits is image" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["suggest", "lenet", "digits", "--steps", "3"])
    assert "steps must be at least 20, got 3" in " ".join(capsys.readouterr().err.replace("│", " ").split())
