"""Data parameters against wrong labels, on real images.

After Saxena, Tuzel and DeCoste, "Data Parameters", NeurIPS 2019, sections 3.4 (wrong labels) and 3.5 (random ones).

How the learning rates of the temperatures were chosen: by the accuracy on validation images whose labels are as
wrong as those to train with, averaged over the last three of 20 epochs, with seed 0 and 3,600 or 4,500 images to train
with; never by test accuracy. 40% of these labels are wrong, so that 60% is the most there is, and 400 to 500 images
give a standard error of about 2.5%. The baseline had 41% and 40%, the oracle 50%.

- Instances: 0.2 (the paper's, for 84 epochs) 40%, 1: 44%, 2: 48%, 4: 47%, 8: 51%, 16: 49%, with fewer wrong labels
  found.
- Classes: 0.1 (the paper's) 24%, 0.01: 30%, 0.001: 38%, 0.0001: 40%. They gain nothing or lose: no class has more wrong
  labels than another. Training on random labels has the paper's rate; it resists right labels, too, as the 24% say.
- Joint, with 0.001 for classes: 8: 41%, 32: 47%, 64: 47%. The gradient of an instance's share of sigma is proportional
  to that share, which starts small: hence the higher rate. From the paper's start of 0.001 it would not move in 20
  epochs; the bounds of the authors' code, which all runs have here, lift it to 1/20. They also keep temperatures from
  vanishing: without them, a rate of 16 ended in a loss that is not a number.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from lerac_experiments.data.corrupt import corrupt_labels, random_labels
from lerac_experiments.data.images import ImageData, Labelled
from lerac_experiments.demos import data, noise_plots, results
from lerac_experiments.demos.data import DataName, Splits
from lerac_experiments.demos.noise_runs import Observer, Starter
from lerac_experiments.demos.results import Row
from lerac_experiments.demos.runner import Run, steps_per_epoch, train
from lerac_experiments.files import write_json
from lerac_experiments.models import resnet_for
from lerac_experiments.options import POSITIVE, Range, require_at_least, require_in
from lerac_experiments.pictures import save
from lerac_experiments.progress import progress_bar
from lerac_experiments.terminal import say
from lerac_fast import DataParameters

BLOCKS = 1  # residual blocks per stage of the network
SIGMA_BOUNDS = (1 / 20, 20.0)  # as in the authors' code
WATCHED_TEST_IMAGES = 1000  # looked at after every epoch, for the curves; the table's accuracies are of all
TABLED_EPOCHS = 4  # for so many epochs the table says which wrong labels were found

_bounded = partial(DataParameters, clamp=SIGMA_BOUNDS)


@dataclass(frozen=True)
class Noise:
    """Train a small residual network on images with wrong labels, with and without data parameters, and compare.

    A second training has nothing but random labels, which can only be memorised.
    """

    data: DataName = "auto"
    """Fashion-MNIST (Debian's package, else a download) or scikit-learn's digits. auto: digits only where
    Fashion-MNIST cannot be had."""
    train_images: int = 3_500
    """How many training images to draw, or all if there are fewer; a tenth of them serves for validation."""
    noise: float = 0.4
    """The share of labels, of training and validation images alike, that are wrong: drawn uniformly from the other
    classes. Test labels are right."""
    epochs: int = 20
    """How often to go through the training images."""
    batch_size: int = 64
    """Images per optimizer step."""
    lr: float = 0.1
    """The base learning rate of the network."""
    class_lr: float = 0.001
    """The learning rate of the classes' temperatures."""
    instance_lr: float = 8.0
    """The learning rate of the examples' temperatures, where they have these alone. In the paper 0.2, in 84 epochs."""
    joint_instance_lr: float = 32.0
    """The learning rate of the examples' temperatures, where the classes have some, too."""
    random_class_lr: float = 0.1
    """The learning rate of the classes' temperatures in training on random labels. It is the paper's."""
    random_images: int = 1_000
    """How many of the training images to train on with random labels."""
    random_epochs: int = 30
    """How often to go through these."""
    seed: int = 0
    """Decides which images are drawn, which labels are wrong, the order of training and the initial weights."""
    threads: int = 1
    """CPU threads. One is steady where others use the machine too, and the results are the same whatever the
    number of cores; on an idle machine two are faster."""
    output: Path = Path("runs/noise")
    """The folder for results.json, noise_sigma.png, noise_accuracy.png and noise_random_labels.png."""

    def __post_init__(self) -> None:
        require_at_least(
            self, train_images=10, epochs=1, batch_size=2, random_images=2, random_epochs=1, seed=0, threads=1
        )
        require_in(self, noise=Range(0, 1, above=True, below=True), lr=POSITIVE, class_lr=POSITIVE)
        require_in(self, instance_lr=POSITIVE, joint_instance_lr=POSITIVE, random_class_lr=POSITIVE)

    def run(self) -> None:
        """Trains, measures, prints the table, and writes it and the pictures to the output folder.

        Raises:
            ExperimentError: no data, damaged data, too few images for a batch, or diverging training.
            OSError: the output folder cannot be written to.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(self.threads)
        images = data.load(self.data)
        splits, corrupt = self._with_wrong_labels(data.split(images, self.train_images, self.seed), images.classes)
        memorised = self._with_random_labels(splits.train, images.classes)
        runs = self._runs(splits.train, corrupt, images.classes)
        random_runs = self._random_runs(memorised, images.classes)
        watched = splits.test.take(torch.arange(min(WATCHED_TEST_IMAGES, len(splits.test))))
        observer = Observer(runs, splits.train, corrupt, watched)
        console = Console()
        with progress_bar(console) as progress:
            wrong = progress.add_task("Wrong labels", total=self._total_iters(splits.train, self.epochs))
            random = progress.add_task("Random labels", total=self._total_iters(memorised, self.random_epochs))
            train(
                runs,
                splits.train,
                splits.validation,
                epochs=self.epochs,
                batch_size=self.batch_size,
                seed=self.seed,
                on_step=lambda: progress.advance(wrong),
                on_epoch=observer,
            )
            train(
                random_runs,
                memorised,
                memorised,  # how well these are classified is how well they are memorised
                epochs=self.random_epochs,
                batch_size=self.batch_size,
                seed=self.seed,
                on_step=lambda: progress.advance(random),
            )
        rows = self._measure(runs, random_runs, observer, splits.test)
        remarks = self._remarks(images, splits, corrupt, memorised)
        console.print(results.results_table(rows, title=f"Wrong labels on {images.name}", remarks=remarks))
        self._write(images, splits, runs, random_runs, observer, rows)
        say(console, f"Table and pictures are in {self.output}/")

    def _total_iters(self, train_data: Labelled, epochs: int) -> int:
        return epochs * steps_per_epoch(train_data, self.batch_size)

    def _with_wrong_labels(self, splits: Splits, classes: int) -> tuple[Splits, Tensor]:
        """The splits with wrong labels among those to train and validate with; and which of the former are wrong."""
        noisy, corrupt = corrupt_labels(splits.train.labels, classes, self.noise, self.seed)
        validation, _ = corrupt_labels(splits.validation.labels, classes, self.noise, self.seed)
        splits = replace(
            splits,
            train=replace(splits.train, labels=noisy),
            validation=replace(splits.validation, labels=validation),
        )
        return splits, corrupt

    def _with_random_labels(self, train_data: Labelled, classes: int) -> Labelled:
        images = train_data.images[: self.random_images]
        return Labelled(images, random_labels(len(images), classes, self.seed))

    def _starter(self, train_data: Labelled, classes: int, epochs: int) -> Starter:
        torch.manual_seed(self.seed)
        initial = resnet_for(train_data.images, classes, blocks=BLOCKS)
        return Starter(initial, lr=self.lr, total_iters=self._total_iters(train_data, epochs))

    def _runs(self, train_data: Labelled, corrupt: Tensor, classes: int) -> list[Run]:
        starter = self._starter(train_data, classes, self.epochs)
        count = len(train_data)
        return [
            starter.plain("baseline"),
            starter.tempered("class", _bounded(classes, class_lr=self.class_lr)),
            starter.tempered("instance", _bounded(num_instances=count, instance_lr=self.instance_lr)),
            starter.tempered(
                "joint", _bounded(classes, count, class_lr=self.class_lr, instance_lr=self.joint_instance_lr)
            ),
            starter.plain("oracle", examples=~corrupt),
        ]

    def _random_runs(self, train_data: Labelled, classes: int) -> list[Run]:
        starter = self._starter(train_data, classes, self.random_epochs)
        return [
            starter.plain("baseline"),
            starter.tempered("class", _bounded(classes, class_lr=self.random_class_lr)),
            starter.tempered("instance", _bounded(num_instances=len(train_data), instance_lr=self.instance_lr)),
        ]

    def _measure(
        self, runs: Sequence[Run], random_runs: Sequence[Run], observer: Observer, test_data: Labelled
    ) -> list[Row]:
        last = {run.name: run.accuracy(test_data) for run in runs}
        best = {run.name: observer.accuracy_at_best(run, test_data) for run in runs}
        mean_sigma = {
            f"{name}, {labels} labels": spread.mean
            for name, history in observer.sigmas.items()
            for labels, spread in (("right", history.clean[-1]), ("wrong", history.corrupt[-1]))
        }
        tabled = sorted({max(1, round(self.epochs * part / TABLED_EPOCHS)) for part in range(1, TABLED_EPOCHS + 1)})
        found = {
            f"{name}, epoch {epoch}": history.found[epoch - 1]
            for name, history in observer.sigmas.items()
            for epoch in tabled
        }
        memorised = {run.name: run.history.validation_accuracies[-1] for run in random_runs}
        step_seconds = {run.name: median(run.history.step_seconds) for run in runs}
        return [
            *results.rows("test accuracy, last epoch", last, "fraction"),
            *results.rows("test accuracy, best validation", best, "fraction"),
            *results.rows("mean sigma", mean_sigma, "1"),
            *results.rows(f"wrong among top {self.noise:.0%} by sigma", found, "fraction"),
            *results.rows("random labels memorised", memorised, "fraction"),
            *results.rows("training step", step_seconds, "s", ratios=True),
        ]

    def _remarks(self, images: ImageData, splits: Splits, corrupt: Tensor, memorised: Labelled) -> list[str]:
        own = [
            f"{int(corrupt.sum()):,} training labels are wrong, drawn uniformly from the other classes, and as large a "
            "share of the validation labels; test labels are right.",
            f"The oracle learns from the {int((~corrupt).sum()):,} examples with right labels: smaller batches.",
            f"Random labels: {len(memorised):,} images, {self.random_epochs} epochs; memorised: right in training.",
        ]
        return results.remarks(images, splits, own, seed=self.seed, threads=self.threads)

    def _write(
        self,
        images: ImageData,
        splits: Splits,
        runs: Sequence[Run],
        random_runs: Sequence[Run],
        observer: Observer,
        rows: Sequence[Row],
    ) -> None:
        settings = {**asdict(self), "sigma_bounds": SIGMA_BOUNDS, "watched_test_images": WATCHED_TEST_IMAGES}
        record = {
            **results.record("demo noise", images, splits, rows, settings),
            "model": {"parameters": sum(p.numel() for p in runs[0].model.parameters())},
            "epochs": {run.name: _epochs(run, observer) for run in runs},
            "random_label_epochs": {
                run.name: {
                    "training_losses": run.history.epoch_losses,
                    "training_accuracies": run.history.validation_accuracies,
                }
                for run in random_runs
            },
        }
        write_json(self.output / "results.json", record)
        for name, figure in (
            ("noise_sigma", noise_plots.temperatures(observer.sigmas, self.noise, SIGMA_BOUNDS)),
            ("noise_accuracy", noise_plots.accuracies(runs, observer.test_accuracies, self.noise)),
            ("noise_random_labels", noise_plots.memorisation(random_runs, images.classes)),
        ):
            save(figure, self.output / f"{name}.png")


def _epochs(run: Run, observer: Observer) -> dict[str, Any]:
    """What the record says of the epochs of a run."""
    record: dict[str, Any] = {
        "training_losses": run.history.epoch_losses,
        "validation_accuracies": run.history.validation_accuracies,
        "watched_test_accuracies": observer.test_accuracies[run.name],
    }
    if run.name in observer.sigmas:
        record["sigma"] = asdict(observer.sigmas[run.name])
    return record
