"""Running trials: to the end, again, after a kill, beside others, and badly."""

import errno
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.tests.trials.helpers import (
    Killed,
    die,
    digits_trial,
    on_call,
    outcome,
    planned,
    record_of,
    run,
    undisturbed,
)
from lerac_experiments import run_trial
from lerac_experiments.data import registry
from lerac_experiments.data.examples import Batch
from lerac_experiments.data.source import DataSet, Parts, Request
from lerac_experiments.errors import Unavailable
from lerac_experiments.training import preparation
from lerac_experiments.training.regimes import REGIMES
from lerac_experiments.training.runner import Runner
from lerac_experiments.training.tasks import Classification, Outcome
from lerac_experiments.trials import sealed
from lerac_experiments.trials.store import TrialFolder
from lerac_experiments.trials.trial import Trial


@pytest.mark.parametrize("regime", REGIMES)
def test_every_regime_trains(tmp_path: Path, regime: str) -> None:
    trial = digits_trial(regime)
    assert run(planned(tmp_path, trial)) == 0
    record = record_of(tmp_path, trial)
    assert record["status"] == "done"
    assert len(record["epochs"]) == 3
    assert 0.0 <= record["result"]["test"] <= 1.0
    assert record["sizes"] == {"train": 90, "validation": 10, "test": 50}
    first, _, last = zip(*record["rates"]["first_middle_last"], strict=True)
    if regime.startswith("lerac") or regime.endswith("+lerac"):
        assert last[0] < first[0]
        assert last[-1] == first[-1] == trial.settings.lr
    else:
        assert last == first
    assert ("sigma" in record["epochs"][0]) == ("cbs" in regime)


@pytest.mark.parametrize("regime", ["conventional", "cbs+lerac", "lerac-snr", "warm-up+cosine", "dp-joint"])
@pytest.mark.parametrize("killed_in", ["training", "checkpoint", "checkpoint after an epoch's first", "record"])
def test_a_killed_trial_goes_on_to_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, regime: str, killed_in: str
) -> None:
    killed = planned(tmp_path, trial := digits_trial(regime, epochs=4, plateau_patience=0, weight_decay=1e-3))
    owner, name, number = {
        "training": (Runner, "_step", 13),  # in the third of four epochs of five steps
        "checkpoint": (sealed.torch, "save", 8),  # there is one before each step
        "checkpoint after an epoch's first": (sealed.torch, "save", 12),
        "record": (TrialFolder, "write_record", 1),
    }[killed_in]
    with monkeypatch.context() as patch:
        on_call(patch, owner, name, number, die)
        with pytest.raises(Killed):
            run(killed)
    assert TrialFolder(killed, trial).record() is None
    assert run(killed) == 0
    again = record_of(killed, trial)
    assert again["resumed"] == 1
    assert outcome(again) == undisturbed(trial)
    assert not any(path.exists() for path in TrialFolder(killed, trial).checkpoint_paths)


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    """SIGKILL for real, in the middle of training; the system gives the lock back."""
    trial = digits_trial(epochs=30, stop_patience=None)
    folder = planned(tmp_path, trial)
    code = (
        "import os, signal\n"
        "from lerac_experiments.training.runner import Runner\n"
        "from experiments.tests.trials.helpers import run\n"
        "from pathlib import Path\n"
        "step, calls = Runner._step, []\n"
        "def dying(self, batch):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 30: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, batch)\n"
        "Runner._step = dying\n"
        f"run(Path({str(folder)!r}), '--threads', '1')\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, timeout=None)
    assert killed.returncode == -9, killed.stderr.decode()
    assert TrialFolder(folder, trial).checkpoint_path.exists()
    assert run(folder) == 0
    assert record_of(folder, trial)["resumed"] == 1


def test_what_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = planned(tmp_path, digits_trial())
    assert run(folder) == 0
    before = TrialFolder(folder, digits_trial()).record_path.read_bytes()
    monkeypatch.setattr(Runner, "__init__", lambda *_: pytest.fail("trained again"))
    assert run(folder) == 0
    assert TrialFolder(folder, digits_trial()).record_path.read_bytes() == before


def _run_all(folder: Path, barrier: Any) -> None:
    torch.set_num_threads(1)
    barrier.wait()
    os._exit(run(folder))


def test_two_processes_share_a_manifest(tmp_path: Path) -> None:
    trials = [digits_trial(regime, seed) for seed in range(3) for regime in ("conventional", "lerac")]
    folder = planned(tmp_path, *trials)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_run_all, args=(folder, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    starts = sorted((record_of(folder, trial)["started"], record_of(folder, trial)["ended"]) for trial in trials)
    assert len(starts) == 6
    assert all(record_of(folder, trial)["resumed"] == 0 for trial in trials)


def test_a_trial_that_is_run_elsewhere_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = digits_trial()
    folder = planned(tmp_path, trial)
    with TrialFolder(folder, trial).locked():
        assert run(folder) == 0
    assert "1 run elsewhere" in capsys.readouterr().out
    assert TrialFolder(folder, trial).record() is None


def test_bad_trials_leave_the_others_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = digits_trial(seed=7)
    diverging = digits_trial(lr=1e30, min_lr=1e-8)
    unknown_model = replace(digits_trial(), model="resnet-9000")
    unknown_regime = replace(digits_trial(), regime="hope")
    wrong_kind = replace(digits_trial(), model="lstm-small")
    trials = (diverging, unknown_model, unknown_regime, wrong_kind, good)
    folder = planned(tmp_path, *trials)
    assert run(folder) == 1
    assert record_of(folder, good)["status"] == "done"
    for trial, reason in (
        (diverging, "loss"),
        (unknown_model, "model 'resnet-9000' is unknown: choose one of"),
        (unknown_regime, "regime 'hope' is unknown"),
        (wrong_kind, "lstm-small takes text data, and digits is image"),
    ):
        record = record_of(folder, trial)
        assert record["status"] == "failed"
        assert reason in record["error"]
        assert record["traceback"] is None
    assert record_of(folder, diverging)["diverged"]
    printed = capsys.readouterr()
    assert "1 done, 4 failed" in printed.out
    assert "4 trials failed" in printed.err
    # A second time: nothing is tried again, unless that is asked for.
    assert run(folder) == 1
    printed = capsys.readouterr()
    assert "1 done before, 4 failed before" in " ".join(printed.out.split())
    assert "4 trials failed before: " in printed.err
    assert f"`lerac-fast run {folder} --retry-failed` runs them again" in printed.err
    assert run(folder, "--retry-failed") == 1


def test_data_that_cannot_be_had_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = digits_trial()
    folder = planned(tmp_path, trial)

    def missing(_: Request) -> Parts:
        raise Unavailable("digits cannot be had: buy some")

    with monkeypatch.context() as patch:
        patch.setitem(registry.DATA, "digits", DataSet("digits", "Digits", "image", missing))
        patch.setattr(preparation, "_loaded", preparation._loaded.__wrapped__)  # without what it remembers
        assert run(folder) == 1
    assert "none of 1 trials could be run" in capsys.readouterr().err
    assert record_of(folder, trial)["status"] == "unavailable"
    assert "buy some" in record_of(folder, trial)["error"]
    assert run(folder) == 0
    assert record_of(folder, trial)["status"] == "done"


class DeadDevice(Exception):
    """As torch.AcceleratorError: nothing more can be done on that GPU in this process."""


@pytest.mark.parametrize("where", ["__init__", "_step"])
def test_a_gpu_that_fails_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Trials after it would all fail. That of the failure has its record, and the others are run the next time."""
    first, second = digits_trial(), digits_trial(seed=1)
    folder = planned(tmp_path, first, second)

    def fail(*_: Any) -> None:
        raise DeadDevice("an illegal memory access")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "AcceleratorError", DeadDevice)
        patch.setattr(Runner, where, fail)
        with pytest.raises(DeadDevice):
            run(folder)
    assert "illegal memory access" in record_of(folder, first)["error"]
    assert run(folder) == 1  # the first has failed
    assert record_of(folder, second)["status"] == "done"


def test_what_has_diverged_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint within the epoch holds what is no number."""
    trial = digits_trial()
    undisturbed, folder = planned(tmp_path / "undisturbed", trial), planned(tmp_path / "runs", trial)
    assert run(undisturbed) == 0

    def spoil(runner: Runner, _: Batch) -> None:
        next(runner.model.parameters()).data.fill_(torch.nan)

    on_call(monkeypatch, Runner, "_step", 7, spoil)
    assert run(folder) == 1
    assert record_of(folder, trial)["diverged"]
    assert run(folder, "--retry-failed") == 0
    assert outcome(record_of(folder, trial)) == outcome(record_of(undisturbed, trial))


@pytest.mark.parametrize("what", ["checkpoint", "record"])
def test_a_full_disk_ends_the_trial_and_it_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    first, second = digits_trial(), digits_trial(seed=1)
    folder = planned(tmp_path, first, second)
    full = [True]
    original = TrialFolder.save_checkpoint if what == "checkpoint" else TrialFolder.write_record
    name = original.__name__

    def write(self: TrialFolder, content: dict[str, Any]) -> None:
        if full[0] and self.trial == first:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, content)

    monkeypatch.setattr(TrialFolder, name, write)
    assert run(folder) == 1
    assert "No space left on device" in " ".join(capsys.readouterr().out.split())
    assert record_of(folder, second)["status"] == "done"
    full[0] = False
    assert run(folder, "--retry-failed") == 0
    assert record_of(folder, first)["status"] == "done"


def test_index_and_ids_choose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = [digits_trial(seed=seed) for seed in range(3)]
    folder = planned(tmp_path, *trials)
    assert run(folder, "--index", "1") == 0
    assert [TrialFolder(folder, trial).record() is None for trial in trials] == [True, False, True]
    assert run(folder, "--trials", trials[2].id[:9]) == 0
    assert TrialFolder(folder, trials[2]).record() is not None
    assert run(folder, "--index", "3") == 1
    assert "index=3" in capsys.readouterr().err


def test_schedulers_call_a_function(tmp_path: Path) -> None:
    trials = [digits_trial(), digits_trial(lr=1e30)]
    folder = planned(tmp_path, *trials)
    assert [run_trial(folder, trial.id) for trial in (*trials, trials[0])] == ["done", "failed", "done before"]


def test_early_stopping_waits_for_lerac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classification, "evaluate", lambda *_: Outcome(1.0, 0.5, torch.ones(50, dtype=torch.bool)))
    conventional = digits_trial(epochs=9, stop_patience=2, plateau_patience=0)
    lerac = digits_trial("lerac", epochs=9, stop_patience=2, plateau_patience=0, lerac_epochs=4.0)
    folder = planned(tmp_path, conventional, lerac)
    assert run(folder) == 0
    assert len(record_of(folder, conventional)["epochs"]) == 3  # the best, and two that are no better
    assert len(record_of(folder, lerac)["epochs"]) == 5  # three under LeRaC (it ends with the fourth), and two
    rates = record_of(folder, conventional)["rates"]["first_middle_last"]
    assert rates[-1][0] == pytest.approx(rates[0][0] / 10)


def test_steps_momentum_and_augmentation_are_as_asked_for(tmp_path: Path) -> None:
    stepped = digits_trial(schedule="steps", milestones=(1 / 3, 2 / 3), step_factor=0.2)
    nesterov, augmented = (
        replace(stepped, protocol=replace(stepped.protocol, **{name: True}))
        for name in (
            "nesterov",
            "augment_images",
        )
    )
    folder = planned(tmp_path, stepped, nesterov, augmented)
    assert run(folder) == 0
    records = [record_of(folder, trial) for trial in (stepped, nesterov, augmented)]
    for record in records:
        rates = [first for first, _, _ in record["rates"]["first_middle_last"]]
        assert rates == pytest.approx([stepped.settings.lr * factor for factor in [1] * 5 + [0.2] * 5 + [0.04] * 5])
    losses = [record["epochs"][0]["train_loss"] for record in records]
    assert len(set(losses)) == 3


def test_label_noise_is_found_and_the_oracle_sees_none(tmp_path: Path) -> None:
    noisy = digits_trial("dp-instance", label_noise=0.3, instance_lr=8.0)
    oracle = digits_trial(label_noise=0.3, noise_free=True)
    folder = planned(tmp_path, noisy, oracle)
    assert run(folder) == 0
    record = record_of(folder, noisy)
    assert 0.0 <= record["result"]["wrong_found"] <= 1.0
    assert record["sizes"]["train"] == 90
    assert record_of(folder, oracle)["sizes"]["train"] == 63


def test_weights_and_tensorboard_are_kept(tmp_path: Path) -> None:
    trial = digits_trial()
    folder = planned(tmp_path / "runs", trial)
    assert run(folder, "--keep-weights", "--tensorboard", str(tmp_path / "logs")) == 0
    weights = torch.load(TrialFolder(folder, trial).weights_path, weights_only=True)
    assert "stem.weight" in weights
    assert [*(tmp_path / "logs" / trial.id).iterdir()]


def test_an_interrupted_epoch_draws_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_trial: Trial
) -> None:
    trial = random_trial
    undisturbed, killed = planned(tmp_path / "undisturbed", trial), planned(tmp_path / "killed", trial)
    assert run(undisturbed) == 0
    on_call(monkeypatch, Runner, "_step", 8, die)
    with pytest.raises(Killed):
        run(killed)
    torch.manual_seed(5)  # as another process would have it
    assert run(killed) == 0
    assert outcome(record_of(killed, trial)) == outcome(record_of(undisturbed, trial))


def test_loading_processes_change_nothing(tmp_path: Path, random_trial: Trial) -> None:
    """Not even of a model with dropout, whose stream of random numbers they must not touch."""
    trial = random_trial
    alone, helped = planned(tmp_path / "alone", trial), planned(tmp_path / "helped", trial)
    assert run(alone) == 0
    assert run(helped, "--workers", "1") == 0
    assert outcome(record_of(helped, trial)) == outcome(record_of(alone, trial))


def test_without_a_home_directory_a_trial_fails_at_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a user whom the system does not know."""

    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("LERAC_FAST_DATA", raising=False)
    trial = digits_trial()
    folder = planned(tmp_path, trial)
    with monkeypatch.context() as patch:
        patch.setattr(Runner, "_step", lambda *_: pytest.fail("trained"))
        assert run(folder) == 1
    record = record_of(folder, trial)
    assert "there is no home directory. Set HOME, or LERAC_FAST_DATA" in record["error"]
    assert record["traceback"] is None
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    assert run(folder, "--retry-failed") == 0


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = planned(tmp_path, digits_trial(), digits_trial(seed=1))

    def acquire(_: Any) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("lerac_experiments.trials.store.FileLock.acquire", acquire)
    assert run(folder) == 1
    printed = capsys.readouterr()
    assert "the file system has no locks" in " ".join(printed.out.split())
    assert "2 trials failed" in printed.err


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_lock_that_is_no_file_keeps_nobody_waiting(
    tmp_path: Path, make: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    trial, other = digits_trial(), digits_trial(seed=1)
    folder = planned(tmp_path, trial, other)
    TrialFolder(folder, trial).path.mkdir(parents=True)
    make(TrialFolder(folder, trial).path / "lock")
    assert run(folder) == 1
    assert "lock is no regular file: remove it" in " ".join(capsys.readouterr().out.split())
    assert record_of(folder, other)["status"] == "done"
