"""Pictures of the curricula. matplotlib is imported when the first one is drawn, not before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lerac_fast.lerac.schedule import depth_ranks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_NAMES = 12  # more lines than that are told apart by a colour bar
_MAX_POINTS = 500


def plot_lerac(
    groups: Sequence[dict[str, Any]], rates_at: Callable[[int], list[float]], total_iters: int, curve: str
) -> Figure:
    """Draw the learning rate of every param group over the optimizer steps, to a little beyond k.

    One line per group, coloured by its depth, dark at the input; a legend with the groups' `name` keys, or a
    colour bar if they are many. `rates_at` has their rates at a step, `total_iters` is k.

    Raises ImportError if matplotlib is missing.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import LinearSegmentedColormap, Normalize
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ImportError("LeRaC.plot needs matplotlib: pip install 'lerac_fast[plot]'") from error

    ranks = depth_ranks(groups)
    k = total_iters
    end = k + max(1, k // 10)
    steps = sorted({end * i // _MAX_POINTS for i in range(_MAX_POINTS + 1)} | {k})
    rates = [rates_at(step) for step in steps]

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")  # without pyplot, which would keep it alive
    axes = figure.add_subplot()
    # The yellow end of viridis is too pale for lines on white.
    colours = LinearSegmentedColormap.from_list("depth", colormaps["viridis"]([i / 280 for i in range(256)]))
    depths = Normalize(1, max(2, max(ranks) + 1))
    for j, (group, rank) in enumerate(zip(groups, ranks, strict=True)):
        axes.plot(
            steps,
            [row[j] for row in rates],
            color=colours(depths(rank + 1)),
            drawstyle="steps-post" if curve == "decades" else "default",
            label=group.get("name", f"group {j}"),
        )
    axes.axvline(k, color="0.6", linestyle="--", linewidth=1, zorder=0)
    axes.annotate(
        f"k = {k}",
        (k, 0.03),
        (-5, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right",
        color="0.4",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(
        title=f"LeRaC, {curve}",
        xlabel="optimizer step",
        ylabel="learning rate",
        yscale="log",
        xlim=(0, end),
    )
    if len(groups) <= _MAX_NAMES:
        figure.legend(loc="outside right upper", frameon=False)
    else:
        bar = figure.colorbar(ScalarMappable(depths, colours), ax=axes, label="depth (1: nearest the input)")
        bar.ax.invert_yaxis()  # as the lines lie: the input on top
    return figure
