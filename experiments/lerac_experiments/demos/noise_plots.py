"""Pictures of training on wrong labels."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

from lerac_experiments.demos.runner import Run
from lerac_experiments.demos.sigma import SigmaHistory, Spread
from lerac_experiments.pictures import STYLES

_CLEAN, _CORRUPT = "#0072B2", "#D55E00"


def temperatures(sigmas: Mapping[str, SigmaHistory], noise: float, bounds: tuple[float, float]) -> Figure:
    """The temperatures of the examples, by whether their label is right, and how well they tell which are wrong.

    Args:
        sigmas: of the runs, of which the first is drawn in full.
        noise: the share of wrong labels.
        bounds: the lowest and highest sigma that there may be.
    """
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    sigma_axes, found_axes = figure.subplots(1, 2)
    name, history = next(iter(sigmas.items()))
    for label, spreads, colour, dashes in (
        ("wrong labels", history.corrupt, _CORRUPT, "-"),
        ("right labels", history.clean, _CLEAN, "--"),
    ):
        _band(sigma_axes, spreads, label, colour, dashes)
    lower_bound, _ = (sigma_axes.axhline(bound, color="0.4", linestyle=":", linewidth=1) for bound in bounds)
    lower_bound.set_label("bounds")
    sigma_axes.set(title=f"Temperatures of the examples ({name})", ylabel="sigma: median and quartiles", yscale="log")
    sigma_axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    sigma_axes.yaxis.set_major_formatter("{x:g}")
    sigma_axes.yaxis.set_minor_locator(NullLocator())
    sigma_axes.legend(loc="center right")
    for (run_name, run_history), (colour, dashes, marker) in zip(sigmas.items(), STYLES[2:], strict=False):
        epochs = range(1, len(run_history.found) + 1)
        found_axes.plot(
            epochs, run_history.found, color=colour, linestyle=dashes, marker=marker, markersize=4, label=run_name
        )
    found_axes.axhline(noise, color="0.4", linestyle=":", linewidth=1, label="by chance")
    found_axes.set(title=f"Wrong labels among the top {noise:.0%} by sigma", ylabel="share", ylim=(None, 1.02))
    found_axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    found_axes.legend()
    for axes in (sigma_axes, found_axes):
        _epochs(axes)
    return figure


def accuracies(runs: Sequence[Run], test_accuracies: Mapping[str, Sequence[float]], noise: float) -> Figure:
    """The accuracy on right test labels, and on the wrong labels of the validation images, over the epochs."""
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    test_axes, validation_axes = figure.subplots(1, 2)
    for run, style in zip(runs, STYLES, strict=False):
        _curve(test_axes, run.name, test_accuracies[run.name], style)
        _curve(validation_axes, run.name, run.history.validation_accuracies, style)
    test_axes.set(title="Test images, right labels", ylabel="accuracy")
    validation_axes.set(title=f"Validation images, {noise:.0%} of the labels wrong")
    for axes in (test_axes, validation_axes):
        _epochs(axes)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    figure.legend(handles=test_axes.lines, loc="outside upper center", ncols=len(runs))
    return figure


def memorisation(runs: Sequence[Run], classes: int) -> Figure:
    """The accuracy on the training images themselves, whose labels are random."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for run, style in zip(runs, STYLES, strict=False):
        _curve(axes, run.name, run.history.validation_accuracies, style)
    axes.axhline(1 / classes, color="0.4", linestyle=":", linewidth=1, label="nothing memorised")
    axes.set(title="Random labels: how much is memorised", ylabel="accuracy on the training images", ylim=(0.0, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _epochs(axes)
    figure.legend(loc="outside lower center", ncols=len(axes.lines))
    return figure


def _band(axes: Axes, spreads: Sequence[Spread], label: str, colour: str, dashes: str) -> None:
    lower, median, upper = zip(*(spread.quartiles for spread in spreads), strict=True)
    epochs = range(1, len(spreads) + 1)
    axes.fill_between(epochs, lower, upper, color=colour, alpha=0.2, linewidth=0)
    axes.plot(epochs, median, color=colour, linestyle=dashes, marker="o", markersize=4, label=label)


def _curve(axes: Axes, label: str, values: Sequence[float], style: tuple[str, Any, str]) -> None:
    colour, dashes, marker = style
    axes.plot(
        range(1, len(values) + 1), values, color=colour, linestyle=dashes, marker=marker, markersize=4, label=label
    )


def _epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(alpha=0.25)
