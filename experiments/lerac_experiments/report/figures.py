"""The pictures of a report: a panel for each model and data set, a line for each regime, the mean over its seeds."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lerac_experiments.figure_style import STYLES, save
from lerac_experiments.report.records import Cell, baselines, comparison_key
from lerac_experiments.report.statistics import compare

_COLUMNS = 3
_LEGEND_CHARACTERS = 12.5
"""Of a legend, that fit into an inch."""


def write_figures(cells: Sequence[Cell], folder: Path) -> dict[str, str]:
    """Writes the figures that there is something to show in.

    Returns:
        Their file names, and what they show.
    """
    written = {}
    for name, (draw, caption, needs) in _FIGURES.items():
        shown = [cell for cell in cells if needs is None or needs in cell.records[0].epochs[0]]
        if shown:
            save(_grid(shown, draw), folder / f"{name}.png")
            written[f"{name}.png"] = caption
    crossed = [cell for cell in cells if cell.variant]
    if crossed and (figure := _differences(crossed)) is not None:
        save(figure, folder / "differences.png")
        written["differences.png"] = "Each curriculum against conventional training at the same settings"
    return written


def _differences(cells: Sequence[Cell]) -> Figure | None:
    """A row for each setting that curricula were crossed with (optimizers, initial weights), and each curriculum; None
    where there is nothing to compare with."""
    conventional = baselines(cells)
    compared = [
        (cell, found)
        for cell in cells
        if (baseline := conventional.get(comparison_key(cell))) not in (None, cell)
        and (found := compare(cell, baseline)) is not None
    ]
    if not compared:
        return None
    figure = Figure(figsize=(8.0, 1.2 + 0.32 * len(compared)), layout="constrained")
    ax = figure.subplots()
    for row, (cell, found) in enumerate(reversed(compared)):
        scale = 100.0 if cell.higher_is_better else 1.0
        bar = scale * (found.difference_deviation or 0.0)
        ax.errorbar(scale * found.difference, row, xerr=bar, color=STYLES[0][0], marker="o", capsize=2)
    names = [f"{cell.model_title}, {cell.data_title}: {cell.regime_title}" for cell, _ in reversed(compared)]
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.axvline(0.0, color="black", linewidth=0.8)
    ax.grid(alpha=0.25)
    figure.supxlabel("difference of the test metric, mean and deviation over the seeds", fontsize=9)
    return figure


def _grid(cells: Sequence[Cell], draw: Callable[[Axes, Sequence[Cell], dict[str, int]], None]) -> Figure:
    panels: dict[str, list[Cell]] = {}
    for cell in cells:
        panels.setdefault(f"{cell.model_title}\n{cell.data_title}", []).append(cell)
    regimes = {title: number for number, title in enumerate(dict.fromkeys(cell.regime_title for cell in cells))}
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    # Not pyplot, whose global state belongs to the user.
    figure = Figure(figsize=(max(4.6 * columns, 6.0), 3.4 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax, (title, members) in zip(axes, panels.items(), strict=False):
        draw(ax, members, regimes)
        ax.set_title(title, fontsize=10)
        ax.grid(alpha=0.25)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    handles: dict[str, Any] = {}
    for ax in axes:
        for line, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, line)
    beside = int(_LEGEND_CHARACTERS * figure.get_figwidth() / (5 + max(map(len, handles))))
    ncols = max(1, min(4, len(handles), beside))
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=ncols)
    return figure


def _plot(
    ax: Axes, cell: Cell, regimes: dict[str, int], x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray
) -> None:
    """The line of a regime, and its shade between two bounds."""
    colour, dashes, _ = STYLES[regimes[cell.regime_title] % len(STYLES)]
    ax.plot(x, y, label=cell.regime_title, color=colour, linestyle=dashes)
    ax.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)


def _series(cell: Cell, name: str) -> np.ndarray:
    """[runs, epochs], over the epochs that all runs have: runs that ended early have fewer."""
    shortest = min(len(record.epochs) for record in cell.records)
    return np.array([[epoch[name] for epoch in record.epochs[:shortest]] for record in cell.records])


def _validation_by_time(ax: Axes, cells: Sequence[Cell], regimes: dict[str, int]) -> None:
    for cell in cells:
        seconds, metric = _series(cell, "seconds").cumsum(axis=1).mean(axis=0), _metric(cell).mean(axis=0)
        _plot(ax, cell, regimes, seconds, metric, metric, metric)
    ax.set(xlabel="training time in s", ylabel=_metric_label(cells[0]))


def _learning_curves(ax: Axes, cells: Sequence[Cell], regimes: dict[str, int]) -> None:
    _over_epochs(ax, cells, regimes, _metric)
    ax.set(ylabel=_metric_label(cells[0]))


def _training_losses(ax: Axes, cells: Sequence[Cell], regimes: dict[str, int]) -> None:
    _over_epochs(ax, cells, regimes, partial(_series, name="train_loss"))
    ax.set(ylabel="training loss")


def _sigmas(ax: Axes, cells: Sequence[Cell], regimes: dict[str, int]) -> None:
    _over_epochs(ax, cells, regimes, partial(_series, name="sigma"))
    ax.set(ylabel="sigma of CBS; 0: retired")


def _temperatures(ax: Axes, cells: Sequence[Cell], regimes: dict[str, int]) -> None:
    """Of right and of wrong labels: the mean over the seeds, and the deviation over the examples around it."""
    for cell in cells:
        colour = STYLES[regimes[cell.regime_title] % len(STYLES)][0]
        for kind, dashes in (("right", "-"), ("wrong", "--")):
            mean = _series(cell, f"sigma_{kind}").mean(axis=0)
            deviation = _series(cell, f"sigma_{kind}_deviation").mean(axis=0)
            epochs = np.arange(1, len(mean) + 1)
            ax.plot(epochs, mean, label=f"{cell.regime_title}, {kind} labels", color=colour, linestyle=dashes)
            ax.fill_between(epochs, mean - deviation, mean + deviation, color=colour, alpha=0.12, linewidth=0)
    ax.set(xlabel="epoch", ylabel="temperature")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _percent(ax: Axes, cells: Sequence[Cell], regimes: dict[str, int], *, name: str, label: str) -> None:
    _over_epochs(ax, cells, regimes, lambda cell: 100.0 * _series(cell, name))
    ax.set(ylabel=label)


def _over_epochs(
    ax: Axes, cells: Sequence[Cell], regimes: dict[str, int], values_of: Callable[[Cell], np.ndarray]
) -> None:
    """The means over the seeds, and the standard deviation around them."""
    for cell in cells:
        values = values_of(cell)
        mean = values.mean(axis=0)
        deviation = values.std(axis=0, ddof=1) if len(values) > 1 else 0.0
        _plot(ax, cell, regimes, np.arange(1, len(mean) + 1), mean, mean - deviation, mean + deviation)
    ax.set(xlabel="epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _rates(ax: Axes, cells: Sequence[Cell], regimes: dict[str, int]) -> None:
    """Of the first seed: plateaus come at other steps in every run."""
    for cell in cells:
        epochs, rates = cell.records[0].rates
        _plot(ax, cell, regimes, epochs, rates[:, -1], rates[:, -1], rates[:, 0])
    ax.set(xlabel="epoch", ylabel="rate of the last layer", yscale="log")


def _metric(cell: Cell) -> np.ndarray:
    scale = 100.0 if cell.higher_is_better else 1.0
    return scale * _series(cell, "validation_metric")


def _metric_label(cell: Cell) -> str:
    return f"validation {cell.metric}" + (" in %" if cell.higher_is_better else cell.direction)


_FIGURES: dict[str, tuple[Callable[[Axes, Sequence[Cell], dict[str, int]], None], str, str | None]] = {
    "validation_by_time": (_validation_by_time, "Validation against training time, means over the seeds", None),
    "learning_curves": (_learning_curves, "Validation over the epochs, mean and deviation over the seeds", None),
    "training_losses": (_training_losses, "The training loss over the epochs, mean and deviation", None),
    "rates": (_rates, "Learning rates of the first seed: the last layer's, shaded up to the first layer's", None),
    "sigma": (_sigmas, "The width of CBS's Gaussian over the epochs", "sigma"),
    "temperatures": (
        _temperatures,
        "Temperatures of right and of wrong labels over the epochs, mean and deviation over the examples",
        "sigma_wrong",
    ),
    "wrong_found": (
        partial(_percent, name="wrong_found", label="wrong labels among the highest temperatures in %"),
        "The share of wrong labels among the highest temperatures, as many as there are wrong labels",
        "wrong_found",
    ),
    "training_accuracy": (
        partial(_percent, name="train_accuracy", label="training accuracy in %"),
        "The accuracy on the labels that are trained with, wrong ones included: what is known of these is memorised",
        "train_accuracy",
    ),
}
"""How each is drawn, its caption, and what epochs must have noted for it; None, nothing more than all have."""
