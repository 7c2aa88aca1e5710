"""The command `lerac-fast run`: runs the trials of a manifest that have not been run yet."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.markup import escape

from lerac_experiments.environment import environment
from lerac_experiments.errors import ExperimentError, Unavailable
from lerac_experiments.options import require_at_least
from lerac_experiments.terminal import progress_bar, stdout
from lerac_experiments.training.distributed import Ranks, started
from lerac_experiments.training.preparation import prepared
from lerac_experiments.training.runner import Diverged, Machine, Runner, Unanimous
from lerac_experiments.trials.changes import Changed, require_unchanged
from lerac_experiments.trials.manifest import Manifest
from lerac_experiments.trials.store import DONE, FAILED, UNAVAILABLE, Busy, Damaged, TrialFolder
from lerac_experiments.trials.trial import Trial


@dataclass(frozen=True)
class Run:
    """Run the trials of a manifest that have not been run yet.

    Any number of these may run at once on one folder, on one machine or several that share it: a trial is run by one.
    What is killed goes on from its last checkpoint when it is run again. Under torchrun a trial is trained by all
    processes together (DistributedDataParallel).
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """Where `lerac-fast plan` has written the manifest."""
    trials: tuple[str, ...] = ()
    """Run these only, by the beginnings of their ids."""
    index: int | None = None
    """Run this one only, by its number in the manifest from 0, as a Slurm array has it."""
    retry_failed: bool = False
    """Run those again that have failed. Those whose data could not be had are tried again in any case."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU if there is one."""
    threads: int | None = None
    """CPU threads; None, as torch has it. With as many processes as cores, 1 is best."""
    workers: int = 0
    """Processes that load data, for data sets that are read from files."""
    checkpoint_seconds: float = 120.0
    """The least time between two checkpoints of a trial, which are written between steps of training. A large model's
    take a while: give more."""
    keep_weights: bool = False
    """Keep the tested weights of every trial, as trials/ID/weights.pt."""
    tensorboard: Path | None = None
    """Write TensorBoard's logs here."""

    def __post_init__(self) -> None:
        require_at_least(self, workers=0, checkpoint_seconds=0, threads=1)
        if self.index is not None and self.trials:
            raise ValueError(f"give either index={self.index} or trials={' '.join(self.trials)}, not both")

    def run(self) -> None:
        """Runs them.

        Raises:
            ExperimentError: no manifest, no such trial; an interrupt; or, at the end, that some have failed, now or
                before, or that none could be run.
        """
        manifest = Manifest.read(self.folder)
        try:
            counts = self.outcomes(self._chosen(manifest))
        except KeyboardInterrupt:
            raise ExperimentError(
                f"interrupted: `lerac-fast run {self.folder}` goes on from the last checkpoint"
            ) from None
        if bad := _what_is_wrong(counts, self.folder):
            raise ExperimentError(bad)

    def outcomes(self, trials: list[Trial], quiet: bool = False) -> dict[str, int]:
        """Runs trials, with as many threads as are asked for. Returns how many came to what.

        Raises:
            ExperimentError: TensorBoard's logs are asked for, and it is not installed. No trial has failed then.
        """
        if self.tensorboard is not None and find_spec("tensorboard") is None:
            raise ExperimentError("tensorboard is not installed, which writes the logs: pip install tensorboard")
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        with started(self.device) as ranks:
            # Progress goes to the terminal of the first process.
            console = stdout(quiet or not ranks.first)
            counts = _RunAll(self, ranks, console).run(trials)
        console.print(", ".join(f"{count} {what}" for what, count in counts.items() if count), highlight=False)
        return counts

    def _chosen(self, manifest: Manifest) -> list[Trial]:
        if self.index is not None:
            if not 0 <= self.index < len(manifest):
                raise ExperimentError(f"index={self.index}: {self.folder} has the trials 0 to {len(manifest) - 1}")
            return [manifest.trials[self.index]]
        return manifest.find(self.trials) if self.trials else list(manifest)


def _what_is_wrong(counts: dict[str, int], folder: Path) -> str | None:
    """What is to be said of a run that has left trials undone, if it has."""
    failed = ", ".join(f"{counts[what]} trials {what}" for what in (FAILED, FAILED_BEFORE) if counts[what])
    if failed:
        return (
            f"{failed}: `lerac-fast report {folder}` lists the reasons, and `lerac-fast run {folder} --retry-failed` "
            "runs them again"
        )
    undone = counts[UNAVAILABLE]
    return f"none of {undone} trials could be run; above is why" if undone and undone == sum(counts.values()) else None


def run_one(folder: Path, trial_id: str, **options: Any) -> str:
    """Runs one trial in this process; see `lerac_experiments.run_trial`."""
    run = Run(Path(folder), trials=(trial_id,), **options)
    counts = run.outcomes(Manifest.read(run.folder).find(run.trials), quiet=True)
    return next(what for what, count in counts.items() if count)


FAILED_BEFORE = "failed before"


class Shared(Exception):
    """An error that all ranks have met alike, so that they can go on with the next trial together."""


class _RunAll:
    """Runs trials one after the other; what happens to one leaves the others alone."""

    def __init__(self, options: Run, ranks: Ranks, console: Console) -> None:
        self.options, self.ranks, self.console = options, ranks, console
        self._said: set[str] = set()
        self._compared: set[tuple[str | None, ...]] = set()
        """Models, data and files of one's own that were compared with what done trials were trained with."""
        self._marks: dict[str, str | None] = {}
        """Of the records that there were at the start, by the ids of their trials."""

    def run(self, trials: list[Trial]) -> dict[str, int]:
        counts = {DONE: 0, FAILED: 0, UNAVAILABLE: 0, "done before": 0, FAILED_BEFORE: 0, "run elsewhere": 0}
        if self.ranks.first:
            self._marks = {trial.id: TrialFolder(self.options.folder, trial).record_mark() for trial in trials}
        with progress_bar(self.console) as progress:
            task = progress.add_task("Trials", total=len(trials))
            for number, trial in enumerate(trials, start=1):
                bar = progress.add_task(escape(trial.name), total=trial.settings.epochs)
                outcome = self._one(trial, lambda epochs: progress.update(bar, completed=epochs))  # noqa: B023 (called here)
                progress.remove_task(bar)
                progress.advance(task)
                counts[outcome] += 1
                if outcome == DONE and not (self.console.is_terminal or self.console.is_jupyter):  # a log shows no bars
                    self.console.print(f"{trial.name}: done, {number} of {len(trials)}", highlight=False, markup=False)
        return counts

    def _one(self, trial: Trial, on_epoch: Callable[[int], None]) -> str:
        """Runs a trial, unless that is done already or another process is at it. Returns what became of it."""
        folder = TrialFolder(self.options.folder, trial)
        with ExitStack() as held:
            decision: str | None = None
            if self.ranks.first:
                try:
                    held.enter_context(folder.locked())
                    decision = self._ended(folder)
                except Busy:
                    decision = "run elsewhere"
                except (ExperimentError, OSError) as error:  # the folder is full, or its record damaged
                    decision = self._complain(trial, str(error))
            decision = self.ranks.decide(decision)
            return decision or self._attempt(folder, on_epoch)

    def _complain(self, trial: Trial, reason: str) -> str:
        if reason not in self._said:  # the same for many trials, where their data cannot be had
            self._say(trial, reason)
            self._said.add(reason)
        return FAILED

    def _say(self, trial: Trial, text: str) -> None:
        self.console.print(f"[red]{escape(trial.name)}:[/red] {escape(text)}", highlight=False)

    def _ended(self, folder: TrialFolder) -> str | None:
        """What became of the trial before; None if it is to be run."""
        # Not if another process has tried it since this one was started. Clocks differ from machine to machine.
        as_at_start = folder.record_mark() == self._marks[folder.trial.id]
        try:
            record = folder.record()
        except Damaged:
            if not (self.options.retry_failed and as_at_start):
                raise
            self._set_aside(folder, folder.record_path)
            return None
        if record is None:
            return None
        folder.remove_unneeded(record)  # left by a process that was killed before it had
        if record["status"] == DONE:
            if not as_at_start:
                return "run elsewhere"
            self._tell_of_changes(folder.trial)
            return "done before"
        again = record["status"] == UNAVAILABLE or self.options.retry_failed
        return None if again and as_at_start else FAILED_BEFORE

    def _tell_of_changes(self, trial: Trial) -> None:
        """Whoever has edited a model and runs it again is not to take the old results for those of the new one."""
        of_ones_own = (trial.model, trial.data, trial.protocol.class_similarity)
        if of_ones_own in self._compared:
            return
        self._compared.add(of_ones_own)
        try:
            require_unchanged(trial)
        except Changed as change:
            self._say(trial, f"done before, but {change}")
        except (ExperimentError, OSError):
            pass  # what is done needs neither its model nor its data any more

    def _set_aside(self, folder: TrialFolder, path: Path) -> None:
        self._say(folder.trial, f"set aside as {folder.set_aside(path)}")

    def _attempt(self, folder: TrialFolder, on_epoch: Callable[[int], None]) -> str:
        start = time.time()
        record, error = self._outcome(folder, on_epoch)
        record |= {"started": start, "ended": time.time()}
        alone = error is not None and self.ranks.count > 1 and not isinstance(error, Shared)
        if self.ranks.first or alone:
            if record["status"] != DONE:
                self._complain(folder.trial, record["error"])
            try:
                folder.write_record(record)
            except OSError as failed:
                record["status"] = self._complain(folder.trial, f"the record could not be written: {failed}")
        if error is not None and (alone or isinstance(error, torch.AcceleratorError)):
            # The other ranks wait for this one in vain, or no trial can go on in a process whose GPU has failed. The
            # record stands; whoever starts the command again, as `torchrun --max-restarts` does, runs the other trials.
            raise error
        gc.collect()  # schedulers and wrappers hold on to models by cycles
        return str(record["status"])

    def _outcome(self, folder: TrialFolder, on_epoch: Callable[[int], None]) -> tuple[dict[str, Any], Exception | None]:
        """The record, and the error that has ended the trial, if one has; `Shared` if all ranks have met it."""
        options = self.options
        machine = Machine(
            self.ranks, options.workers, options.checkpoint_seconds, options.keep_weights, on_epoch, options.tensorboard
        )
        runner: Runner | None = None
        failed: dict[str, Any] | None = None
        cause: Exception = Shared()
        try:
            runner = self._begin(folder, machine)
        except Exception as error:  # whatever it is, it ends this trial alone
            failed = _failure(error)
            if isinstance(error, torch.AcceleratorError):
                cause = error
        if all_failed := [failure for failure in self.ranks.gather(failed) if failure]:
            return all_failed[0], cause
        assert runner is not None
        try:
            return runner.run(folder), None
        except Unanimous as error:
            return _failure(error), Shared()
        except Exception as error:
            return _failure(error), error

    def _begin(self, folder: TrialFolder, machine: Machine) -> Runner:
        """Goes on from the last checkpoint that is good; else starts anew. Waits for no other rank."""
        resumed = (self._resumed(folder, path, machine) for path in folder.checkpoint_paths)
        return next((runner for runner in resumed if runner is not None), None) or prepared(folder.trial, machine)

    def _resumed(self, folder: TrialFolder, checkpoint: Path, machine: Machine) -> Runner | None:
        try:
            if (state := folder.load_checkpoint(checkpoint)) is None:
                return None
            runner = prepared(folder.trial, machine)
            runner.resume(state)
        except Damaged as error:
            if self.ranks.first:
                self._say(folder.trial, str(error))
                self._set_aside(folder, checkpoint)
            return None
        return runner


def _failure(error: Exception) -> dict[str, Any]:
    expected = isinstance(error, ExperimentError)
    return {
        "status": UNAVAILABLE if isinstance(error, Unavailable) else FAILED,
        "error": str(error) if expected else f"{type(error).__name__}: {error}",
        "diverged": isinstance(error, Diverged),
        "traceback": None if expected else "".join(traceback.format_exception(error)),
        "environment": environment(),
    }
