"""The command `lerac-fast snr`: signal, noise and entropy of a network's layers before training."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from lerac_experiments.data.examples import Batch, Inputs
from lerac_experiments.data.registry import find_data
from lerac_experiments.data.source import VALIDATION_SHARE, DataSet, Parts, Request
from lerac_experiments.environment import environment
from lerac_experiments.errors import ExperimentError
from lerac_experiments.figure_style import STYLES, save
from lerac_experiments.files import write_json
from lerac_experiments.models.registry import find_model
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.options import require_at_least
from lerac_experiments.terminal import progress_bar, say, stdout, table
from lerac_fast.lerac.snr import HIGHEST_SNR, LOWEST_SNR, Decay, LayerSignal, decay_rate, signal_to_noise

FEWEST_EXAMPLES = 4  # which an unbiased estimate takes


@dataclass(frozen=True)
class LayerMeasure:
    """A layer over all initialisations: means and standard deviations (N - 1), which of a single one are 0."""

    name: str
    depth: int
    snr: float
    snr_deviation: float
    entropy: float
    """In bits."""
    entropy_deviation: float


@dataclass(frozen=True)
class Snr:
    """Measure the signal-to-noise ratio and the entropy of every layer of a randomly initialised network."""

    model: Annotated[str, tyro.conf.Positional]
    """The name of a model, which `lerac-fast list` prints, or any other that `lerac-fast plan` takes."""
    data: Annotated[str, tyro.conf.Positional]
    """The name of a data set."""
    examples: int = 256
    """How many training examples to measure with, in one batch."""
    seeds: int = 5
    """How many random initialisations to measure, from seed 0."""
    output: Path = Path("runs/snr")
    """The folder for snr.json and snr.png."""

    def __post_init__(self) -> None:
        require_at_least(self, examples=FEWEST_EXAMPLES, seeds=1)

    def run(self) -> None:
        """Measures, prints a table, and writes it and a picture to the output folder.

        Raises:
            ExperimentError: an unknown name, data that the model does not take, that is missing or too small.
            OSError: the output folder cannot be written to.
        """
        spec, data = find_model(self.model), find_data(self.data)
        _check(spec, data)
        self.output.mkdir(parents=True, exist_ok=True)
        # Some are set aside for validation.
        drawn = 1 + math.ceil(self.examples / (1.0 - VALIDATION_SHARE))
        parts = data.load(Request(train_examples=drawn, encoding=spec.encoding))
        batch = first_batch(parts, self.examples)
        console = stdout()
        with progress_bar(console) as progress:
            seeds = progress.track(range(self.seeds), description="Initialisations")
            runs = [measure(spec, parts, batch.inputs, seed) for seed in seeds]
        layers = over_runs(runs)
        decay = decay_rate([LayerSignal(layer.name, layer.depth, layer.snr, layer.entropy) for layer in layers])
        title = f"{spec.title} on {data.title}"
        remark = f"{self.seeds} initialisations, {len(batch.indices)} examples"
        console.print(_table(layers, decay, f"{title}, {remark}"))
        record = {
            "command": "snr",
            "options": {"model": self.model, "data": self.data, "examples": len(batch.indices), "seeds": self.seeds},
            **parts.provenance,
            "layers": [asdict(layer) for layer in layers],
            "decay": decay._asdict(),
            "entropy_decay": _entropy_decay(layers)._asdict(),
            "decays": [decay_rate(signals)._asdict() for signals in runs],
            "environment": environment(),
        }
        write_json(self.output / "snr.json", record)
        save(picture(layers, decay, title), self.output / "snr.png")
        say(console, f"Table and picture are in {self.output}/")


def picture(layers: Sequence[LayerMeasure], decay: Decay, title: str) -> Figure:
    """Two panels: the signal-to-noise ratio with the fitted exponential, and the entropy, against depth."""
    # Not pyplot, whose global state belongs to the user.
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    figure.suptitle(title)
    snr_axes, entropy_axes = figure.subplots(1, 2, sharex=True)
    depths = [layer.depth for layer in layers]
    (colour, _, marker), (fit_colour, dashes, _) = STYLES[:2]
    points = {"color": colour, "marker": marker, "linestyle": "none", "capsize": 2}
    snrs = [min(max(layer.snr, LOWEST_SNR), HIGHEST_SNR) for layer in layers]
    above = [min(layer.snr_deviation, HIGHEST_SNR) for layer in layers]
    # On a logarithmic axis a bar cannot reach below 0.
    below = [min(bar, 0.9 * snr) for bar, snr in zip(above, snrs, strict=True)]
    snr_axes.errorbar(depths, snrs, yerr=[below, above], **points)
    ends = [min(depths), max(depths)]
    snr_axes.set(ylabel="signal-to-noise ratio", yscale="log")
    entropy_axes.errorbar(
        depths, [layer.entropy for layer in layers], yerr=[layer.entropy_deviation for layer in layers], **points
    )
    entropy_axes.set(ylabel="entropy of a unit, in bits", yscale="log")
    for axes, fit in ((snr_axes, decay), (entropy_axes, _entropy_decay(layers))):
        axes.plot(
            ends,
            [fit.start * math.exp(-fit.rate * depth) for depth in ends],
            color=fit_colour,
            linestyle=dashes,
            label=f"exp({-fit.rate:.2f} depth), r² = {fit.r_squared:.2f}",
        )
        axes.legend(frameon=False)
        axes.set_xlabel("depth of the layer, from the input")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
    return figure


def _entropy_decay(layers: Sequence[LayerMeasure]) -> Decay:
    """The same fit, of the entropy: whether that falls exponentially, too."""
    return decay_rate([LayerSignal(layer.name, layer.depth, layer.entropy, layer.entropy) for layer in layers])


def _check(spec: ModelSpec, data: DataSet) -> None:
    if data.kind == "detection":
        raise ExperimentError(f"{data.name} cannot be measured: images of various sizes make no batch")
    spec.check_takes(data)


def first_batch(parts: Parts, examples: int) -> Batch:
    """The first examples of the training part, as many as that if it has them."""
    found = min(examples, len(parts.train))
    if found < FEWEST_EXAMPLES:
        raise ExperimentError(f"{parts.source}: {found} training examples, and it takes {FEWEST_EXAMPLES} at least")
    return parts.train.__getitems__(list(range(found)))


def measure(spec: ModelSpec, parts: Parts, inputs: Inputs, seed: int, weights: Path | None = None) -> list[LayerSignal]:
    """The layers of one initialisation; with pre-trained weights, of random ones of their sizes."""
    torch.manual_seed(seed)
    model = spec.make(parts, weights)
    return signal_to_noise(model, inputs, spec.groups(model, inputs), seed=seed)


def over_runs(runs: Sequence[Sequence[LayerSignal]]) -> list[LayerMeasure]:
    """The layers over all initialisations."""
    layers = []
    for signals in zip(*runs, strict=True):
        measured = np.array([(signal.snr, signal.entropy) for signal in signals])
        means, deviations = measured.mean(axis=0), measured.std(axis=0, ddof=min(1, len(runs) - 1))
        of_each = np.stack([means, deviations], axis=1).flatten().tolist()
        layers.append(LayerMeasure(signals[0].name, signals[0].depth, *of_each))
    return layers


def _table(layers: Sequence[LayerMeasure], decay: Decay, title: str) -> Table:
    fits = [
        f"{name} ≈ {fit.start:.3g} exp({-fit.rate:.3g} depth), r² = {fit.r_squared:.3f}"
        for name, fit in (("SNR", decay), ("entropy", _entropy_decay(layers)))
    ]
    made = table("depth", "layer", "signal / noise", "entropy, bits", title=title)
    made.caption, made.caption_justify = f"{'; '.join(fits)}. Mean ± standard deviation.", "left"
    for layer in layers:
        made.add_row(
            str(layer.depth),
            layer.name,
            f"{layer.snr:.3g} ± {layer.snr_deviation:.2g}",
            f"{layer.entropy:.2f} ± {layer.entropy_deviation:.2f}",
        )
    return made
