"""The demonstration: a residual network trained on real images, conventionally, with LeRaC, with CBS and with both."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import nn
from torch.optim import Optimizer

from lerac_experiments.data.images import ImageData, Labelled
from lerac_experiments.demos import data, plots, results
from lerac_experiments.demos.data import DataName, Splits
from lerac_experiments.demos.regimes import MOMENTUM, REGIMES, WEIGHT_DECAY, Schedule
from lerac_experiments.demos.results import Row
from lerac_experiments.demos.runner import Run, steps_per_epoch, train
from lerac_experiments.demos.timing import interleaved_medians
from lerac_experiments.files import write_json
from lerac_experiments.models import resnet_for
from lerac_experiments.options import POSITIVE, require_at_least, require_in
from lerac_experiments.pictures import save
from lerac_experiments.progress import progress_bar
from lerac_experiments.terminal import say
from lerac_fast import layer_groups
from lerac_fast.optim import SGD

TIMED_OPTIMIZER_STEPS = 300
CBS_NARROWINGS = 17  # by a tenth each, from sigma = 1 until smoothing is the identity in float32


def fused_torch_sgd(*args: Any, **kwargs: Any) -> Optimizer:
    """torch's own fused SGD: its fastest on a CPU, though not its default."""
    return torch.optim.SGD(*args, fused=True, **kwargs)


# lerac_fast first: the ratios are to the first.
TIMED_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "lerac_fast.optim.SGD": SGD,
    "torch.optim.SGD": torch.optim.SGD,
    "torch.optim.SGD(fused=True)": fused_torch_sgd,
}


@dataclass(frozen=True)
class Demo:
    """Train a small residual network on real images, conventionally and with each curriculum, and compare.

    `lerac-fast demo noise` is a demonstration of its own: data parameters against wrong labels.
    """

    data: DataName = "auto"
    """Fashion-MNIST (Debian's package, else a download) or scikit-learn's digits. auto: digits only where
    Fashion-MNIST cannot be had."""
    train_images: int = 12_000
    """How many training images to draw, or all if there are fewer; a tenth of them serves for validation."""
    epochs: int = 5
    """How often to go through the training images."""
    batch_size: int = 64
    """Images per optimizer step."""
    lr: float = 0.1
    """The base learning rate, of all layers."""
    min_lr: float = 1e-8
    """The learning rate at which LeRaC starts the deepest layer."""
    lerac_epochs: float = 0.5
    """How many epochs LeRaC lasts (k); from then on all layers have the same rate. In the paper it is
    from 1% to 40% of the training."""
    cbs_epochs: float = 2.0
    """How many epochs CBS smooths feature maps, roughly: sigma falls from 1 in equal steps of a tenth, until smoothing
    is the identity. In the paper it takes 85 of 200 epochs."""
    seed: int = 0
    """Decides which images are drawn, their order and the initial weights."""
    threads: int = 1
    """CPU threads. One is steady where others use the machine too, and the results are the same whatever the
    number of cores; on an idle machine two are faster."""
    output: Path = Path("runs/demo")
    """The folder for results.json, learning_rates.png and learning_curves.png."""

    def __post_init__(self) -> None:
        require_at_least(self, train_images=10, epochs=1, batch_size=1, seed=0, threads=1)
        require_in(self, lr=POSITIVE, min_lr=POSITIVE, lerac_epochs=POSITIVE, cbs_epochs=POSITIVE)
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr must be at most lr, got min_lr={self.min_lr:g} and lr={self.lr:g}")
        if self.cbs_epochs > self.epochs:
            raise ValueError(
                f"cbs_epochs must be at most epochs, got cbs_epochs={self.cbs_epochs:g} and epochs={self.epochs}"
            )
        if self.lerac_epochs >= self.epochs:  # it would show nothing of what comes after LeRaC
            raise ValueError(
                f"lerac_epochs must be below epochs, got lerac_epochs={self.lerac_epochs:g} and epochs={self.epochs}"
            )

    def run(self) -> None:
        """Trains, measures, prints the table, and writes it and two pictures to the output folder.

        Raises:
            ExperimentError: no data, damaged data, too few images for a batch, or diverging training.
            OSError: the output folder cannot be written to.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(self.threads)
        images = data.load(self.data)
        splits = data.split(images, self.train_images, self.seed)
        schedule = self._schedule(splits)
        runs = self._start_runs(images, splits, schedule)
        console = Console()
        with progress_bar(console) as progress:
            task = progress.add_task("Training side by side", total=schedule.total_iters)
            train(
                runs,
                splits.train,
                splits.validation,
                epochs=self.epochs,
                batch_size=self.batch_size,
                seed=self.seed,
                on_step=lambda: progress.advance(task),
            )
        rows = self._measure(runs, splits, schedule)
        remarks = self._remarks(images, splits, schedule, runs)
        console.print(results.results_table(rows, title=f"A small ResNet on {images.name}", remarks=remarks))
        self._write(images, splits, schedule, runs, rows)
        say(console, f"Table and pictures are in {self.output}/")

    def _schedule(self, splits: Splits) -> Schedule:
        steps = steps_per_epoch(splits.train, self.batch_size)
        return Schedule(
            total_iters=self.epochs * steps,
            lerac_iters=max(1, round(self.lerac_epochs * steps)),
            min_lr=self.min_lr,
            cbs_every=max(1, round(self.cbs_epochs * steps / CBS_NARROWINGS)),
        )

    def _start_runs(self, images: ImageData, splits: Splits, schedule: Schedule) -> list[Run]:
        """One run per regime, from the same initial weights, with the same optimizer and param groups."""
        torch.manual_seed(self.seed)
        initial = resnet_for(splits.train.images, images.classes)
        runs = []
        for name, regime in REGIMES.items():
            model = copy.deepcopy(initial)
            optimizer = self._optimizer(SGD, model, splits.train)
            runs.append(Run(name, model, optimizer, regime(model, optimizer, schedule)))
        return runs

    def _optimizer(self, make: Callable[..., Optimizer], model: nn.Module, train_data: Labelled) -> Optimizer:
        groups = layer_groups(model, example_inputs=train_data.images[:1])
        return make(groups, lr=self.lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)

    def _measure(self, runs: Sequence[Run], splits: Splits, schedule: Schedule) -> list[Row]:
        accuracies = {run.name: run.accuracy(splits.test) for run in runs}
        measured = results.rows("test accuracy", accuracies, "fraction")
        retires = _cbs_iters(schedule)
        for period, steps in (("CBS active", slice(retires)), ("CBS retired", slice(retires, None))):
            step_seconds = {run.name: run.history.step_seconds[steps] for run in runs}
            if all(step_seconds.values()):
                medians = {name: median(seconds) for name, seconds in step_seconds.items()}
                measured += results.rows(f"step, {period}", medians, "s", ratios=True)
        optimizer_seconds = self._time_optimizers(runs[0].model, splits.train)
        return [*measured, *results.rows("optimizer step", optimizer_seconds, "s", ratios=True)]

    def _time_optimizers(self, trained: nn.Module, train_data: Labelled) -> dict[str, float]:
        """The seconds per step of each optimizer, on copies of one model with the gradients of one batch."""
        steps = {}
        for name, make in TIMED_OPTIMIZERS.items():
            model = copy.deepcopy(trained)
            F.cross_entropy(
                model(train_data.images[: self.batch_size]), train_data.labels[: self.batch_size]
            ).backward()
            steps[name] = self._optimizer(make, model, train_data).step
        return interleaved_medians(steps, TIMED_OPTIMIZER_STEPS)

    def _remarks(self, images: ImageData, splits: Splits, schedule: Schedule, runs: Sequence[Run]) -> list[str]:
        layers = len(runs[0].optimizer.param_groups)
        own = [
            f"One param group for each of {layers} layers. LeRaC ends at step {schedule.lerac_iters:,}, CBS retires "
            f"at step {_cbs_iters(schedule):,}, of {schedule.total_iters:,}.",
        ]
        return results.remarks(images, splits, own, seed=self.seed, threads=self.threads)

    def _write(
        self, images: ImageData, splits: Splits, schedule: Schedule, runs: Sequence[Run], rows: Sequence[Row]
    ) -> None:
        record = {
            **results.record("demo", images, splits, rows, {**asdict(self), **asdict(schedule)}),
            "model": {
                "parameters": sum(p.numel() for p in runs[0].model.parameters()),
                "layers": {group["name"]: group["depth"] for group in runs[0].optimizer.param_groups},
            },
            "epochs": {
                run.name: {
                    "training_losses": run.history.epoch_losses,
                    "validation_accuracies": run.history.validation_accuracies,
                }
                for run in runs
            },
        }
        write_json(self.output / "results.json", record)
        conventional, lerac = (run for run in runs if run.name in ("conventional", "LeRaC"))
        rates = plots.learning_rates(conventional, lerac, lerac_iters=schedule.lerac_iters)
        ends = {"LeRaC ends": schedule.lerac_iters, "CBS retires": _cbs_iters(schedule)}
        curves = plots.learning_curves(runs, ends)
        save(rates, self.output / "learning_rates.png")
        save(curves, self.output / "learning_curves.png")


def _cbs_iters(schedule: Schedule) -> int:
    """The iteration at which CBS retires."""
    return CBS_NARROWINGS * schedule.cbs_every
