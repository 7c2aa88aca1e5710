"""Pictures of training runs."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lerac_experiments.demos.runner import Run
from lerac_experiments.pictures import STYLES


def learning_rates(conventional: Run, lerac: Run, *, lerac_iters: int) -> Figure:
    """The rates that LeRaC gave to the layers, coloured by depth, over the conventional one, in grey."""
    # Not pyplot, whose global state belongs to the user.
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(
        [rates[0] for rates in conventional.history.learning_rates],
        color="0.8",
        linewidth=6,
        label="conventional: all layers",
    )
    depths = [group["depth"] for group in lerac.optimizer.param_groups]
    # Cut short of the map's brightest end, which is too pale on white.
    colours = ListedColormap(colormaps["viridis"](np.linspace(0.0, 0.9, max(depths))))
    norm = BoundaryNorm(np.arange(0.5, max(depths) + 1.0), max(depths))
    for depth, trace in zip(depths, zip(*lerac.history.learning_rates, strict=True), strict=True):
        axes.plot(trace, color=colours(norm(depth)), linewidth=1.4)
    axes.set(
        xlabel="optimizer step",
        ylabel="learning rate",
        yscale="log",
        title="LeRaC: a learning rate per layer",
    )
    axes.margins(x=0.01)
    _mark_end(axes, lerac_iters, f"k = {lerac_iters:,}", height=0.03)
    figure.legend(loc="outside lower left")
    ticks = range(1, max(depths) + 1, 1 + max(depths) // 10)
    colour_bar = figure.colorbar(ScalarMappable(norm, colours), ax=axes, ticks=ticks)
    colour_bar.minorticks_off()
    colour_bar.ax.invert_yaxis()  # as the traces lie: the input side on top
    colour_bar.set_label("depth of the layer, from the input")
    return figure


def learning_curves(runs: Sequence[Run], ends: Mapping[str, int]) -> Figure:
    """The training loss and the validation accuracy of every run over the epochs; `ends` are iterations to mark."""
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2, sharex=True)
    for run, (colour, dashes, marker) in zip(runs, STYLES, strict=False):
        losses, accuracies = run.history.losses, run.history.validation_accuracies
        steps_per_epoch = len(losses) / len(accuracies)
        steps, means = moving_average(losses, max(1, len(losses) // 25))
        style = {"color": colour, "linestyle": dashes, "label": run.name}
        loss_axes.plot(steps / steps_per_epoch, means, **style)
        epochs = range(1, len(accuracies) + 1)
        accuracy_axes.plot(epochs, accuracies, marker=marker, **style)
    loss_axes.set(xlabel="epoch", ylabel="training loss (moving average)")
    accuracy_axes.set(xlabel="epoch", ylabel="validation accuracy")
    accuracy_axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (loss_axes, accuracy_axes):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        for text, iteration in ends.items():
            if iteration < len(runs[0].history.losses):
                _mark_end(axes, iteration / steps_per_epoch, text, height=0.95)
    figure.legend(handles=accuracy_axes.lines[: len(runs)], loc="outside upper center", ncols=len(runs))
    return figure


def moving_average(values: Sequence[float], window: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean of every `window` successive values, and the number of values up to the window's middle."""
    means = np.convolve(values, np.full(window, 1.0 / window), mode="valid")
    return np.arange(len(means)) + (window + 1) / 2, means


def _mark_end(axes: Axes, x: float, text: str, *, height: float) -> None:
    axes.axvline(x, color="0.4", linestyle=":", linewidth=1, zorder=0)
    in_left_half = x < sum(axes.get_xlim()) / 2
    axes.annotate(
        text,
        (x, height),
        xycoords=("data", "axes fraction"),
        xytext=(5 if in_left_half else -5, 0),
        textcoords="offset points",
        horizontalalignment="left" if in_left_half else "right",
        verticalalignment="center",
        color="0.3",
    )
