"""Trials that several processes train together."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch

from experiments.tests.trials.helpers import digits_trial, outcome, planned, record_of, run
from experiments.tests.trials.ranks import run_ranks
from lerac_experiments.cli import main
from lerac_experiments.data.registry import DATA
from lerac_experiments.errors import Unavailable
from lerac_experiments.models import MODELS
from lerac_experiments.training.distributed import Ranks
from lerac_experiments.training.regimes import LeRaCRates
from lerac_experiments.training.runner import Runner
from lerac_experiments.training.tasks import Classification
from lerac_experiments.trials.store import TrialFolder
from lerac_experiments.trials.trial import Trial
from lerac_fast import LeRaC
from lerac_fast.optim import SGD

OPTIONS = ("--device", "cpu", "--threads", "1", "--checkpoint-seconds", "0")


def test_torchrun_trains_together(tmp_path: Path) -> None:
    """Regimes with tensors of their own; and trials that all processes fail at, which do not end the run."""
    good = [digits_trial("cbs+lerac"), digits_trial("dp-joint"), digits_trial("lerac-snr")]
    bad = [digits_trial(lr=1e30), digits_trial(batch_size=15), replace(good[0], model="none")]
    folder = planned(tmp_path, *bad, *good)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, "-m", "lerac_experiments.cli", "run", str(folder), *OPTIONS]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    records = [json.loads(TrialFolder(folder, trial).record_path.read_text()) for trial in (*bad, *good)]
    assert [record["status"] for record in records] == ["failed"] * 3 + ["done"] * 3, done.stderr
    assert "batch_size=15 must be a multiple of the 2 processes" in records[1]["error"]
    assert records[3]["ranks"] == 2
    assert records[3]["sizes"]["train"] == 90


def run_dying(folder: Path, step: int) -> int:
    """Runs the trials, with dropout before LeNet; is killed before its `step`th step."""
    spec, original, calls = MODELS["lenet"], Runner._step, count(1)

    def build(parts: Any, pretrained: Any) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Dropout(0.2), spec.build(parts, pretrained))

    def dying(self: Runner, batch: Any) -> torch.Tensor:
        if next(calls) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, batch)

    MODELS["lenet"] = replace(spec, build=build)
    Runner._step = dying  # type: ignore[method-assign]
    return main(["run", str(folder), *OPTIONS])


def test_it_goes_on_within_an_epoch(tmp_path: Path, random_trial: Trial) -> None:
    """Killed in the second epoch, after the second checkpoint in it; with dropout, drawn by each process for itself.
    One process takes up what two have left, too."""
    trial = replace(random_trial, regime="cbs+lerac", settings=replace(random_trial.settings, batch_size=2, epochs=2))
    undisturbed, killed = planned(tmp_path / "undisturbed", trial), planned(tmp_path / "killed", trial)
    assert run_ranks(tmp_path, run_dying, undisturbed, 0).well
    assert not run_ranks(tmp_path, run_dying, killed, 45 + 40).well  # 45 steps are an epoch
    path = TrialFolder(killed, trial).checkpoint_path
    assert torch.load(path, weights_only=True)["steps_done"] == 45 + 32
    alone = planned(tmp_path / "alone", trial)
    shutil.copytree(killed / "trials", alone / "trials")
    assert run(alone) == 0
    assert record_of(alone, trial)["epochs"][0] == record_of(undisturbed, trial)["epochs"][0] | {
        name: record_of(alone, trial)["epochs"][0][name] for name in ("seconds", "evaluation_seconds")
    }
    assert len(record_of(alone, trial)["epochs"]) == 2
    done = run_ranks(tmp_path, run_dying, killed, 0)
    assert done.well, done.printed
    assert outcome(record_of(killed, trial)) == outcome(record_of(undisturbed, trial))


def run_without_data_on_the_second(folder: Path) -> int:
    digits = DATA["digits"]

    def load(request: Any) -> Any:
        if os.environ["RANK"] == "1":
            raise Unavailable("not on this machine")
        return digits.load(request)

    DATA["digits"] = replace(digits, load=load)
    return main(["run", str(folder), *OPTIONS])


def test_a_process_that_cannot_start_keeps_none_waiting(tmp_path: Path) -> None:
    """Not even where there is something to measure before the training."""
    trials = [digits_trial(regime) for regime in ("conventional", "lerac-snr")]
    folder = planned(tmp_path / "runs", *trials)
    done = run_ranks(tmp_path, run_without_data_on_the_second, folder)
    assert 1 in done.statuses, done.printed
    assert "none of 2 trials could be run" in done.printed
    for trial in trials:
        assert record_of(folder, trial)["status"] == "unavailable"
        assert "not on this machine" in record_of(folder, trial)["error"]


def test_processes_take_the_rates_that_the_first_has_measured() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    first, second = (
        LeRaCRates(
            LeRaC(SGD([{"params": layer.parameters()} for layer in model], lr=0.5), 9, initial_lrs=[0.5, lowest])
        )
        for lowest in (1e-3, 1.1e-3)
    )

    class Second(Ranks):
        def decide(self, value: Any) -> Any:  # noqa: ARG002
            groups = first.scheduler.optimizer.param_groups
            return first.scheduler.state_dict(), [group["lr"] for group in groups]

    second.agree(Second(1, 2))
    for part in (first, second):
        part.scheduler.optimizer.step()
        part.on_step()
    rates = [[group["lr"] for group in part.scheduler.optimizer.param_groups] for part in (first, second)]
    assert rates[0] == rates[1]
    assert rates[0][1] > 1e-3


def run_watched(folder: Path, seen_in: Path) -> int:
    """Saves the buffers of the model as they are at each evaluation."""
    evaluate, seen = Classification.evaluate, []

    def watched(self: Classification, model: torch.nn.Module, batches: Any, size: int, ranks: Ranks) -> Any:
        seen.append({name: buffer.clone() for name, buffer in model.named_buffers()})
        torch.save(seen, seen_in / f"rank{ranks.rank}.pt")
        return evaluate(self, model, batches, size, ranks)

    Classification.evaluate = watched  # type: ignore[method-assign]
    return main(["run", str(folder), *OPTIONS])


def test_processes_validate_with_the_same_statistics(tmp_path: Path) -> None:
    """Those of batch norm, which each process gathers from its own share of a batch."""
    folder = planned(tmp_path / "runs", digits_trial())
    done = run_ranks(tmp_path, run_watched, folder, tmp_path)
    assert done.well, done.printed
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert len(first) == 4  # three validations and the test
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert any("running_mean" in name for name in first[0])


def run_failing_on_the_second(folder: Path) -> int:
    step, calls = Runner._step, count(1)

    def failing(self: Runner, batch: Any) -> torch.Tensor:
        if os.environ["RANK"] == "1" and next(calls) == 7:
            raise RuntimeError("a damaged image")
        return step(self, batch)

    Runner._step = failing  # type: ignore[method-assign]
    return main(["run", str(folder), *OPTIONS])


def test_what_goes_wrong_in_one_process_of_several_is_recorded(tmp_path: Path) -> None:
    """The others would wait for it in vain: all end, and the next run goes on with the next trial."""
    trials = [digits_trial(), digits_trial(seed=1)]
    folder = planned(tmp_path / "runs", *trials)
    assert not run_ranks(tmp_path, run_failing_on_the_second, folder).well
    assert "a damaged image" in record_of(folder, trials[0])["error"]
    assert run(folder) == 1  # the first has failed
    assert record_of(folder, trials[1])["status"] == "done"
