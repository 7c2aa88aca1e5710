"""Pictures of the curricula. matplotlib is imported only when one is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lerac_fast.curricula.lerac import depth_ranks, rate_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lerac_fast.curricula.lerac import LeRaC

MAX_LEGEND_ENTRIES = 12
MAX_POINTS = 500


def plot_lerac(curriculum: LeRaC) -> Figure:
    """Draw the rate of every param group over the optimizer steps, from 0 to a little beyond k.

    One line per group, coloured by depth from the input (dark) to the output (light), without the effect of other
    schedulers. Groups are named by their `name` key, or numbered. The scheduler is only read.

    Raises ImportError if matplotlib is not installed.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ImportError("plotting needs matplotlib: pip install 'lerac_fast[plot]'") from error

    groups = curriculum.optimizer.param_groups
    ranks = depth_ranks(groups)
    k = curriculum.total_iters
    last = k + max(1, k // 8)
    steps = sorted({round(i * last / MAX_POINTS) for i in range(MAX_POINTS + 1)} | {k})
    base_lrs = [float(base) for base in curriculum.base_lrs]
    rates = rate_table(base_lrs, curriculum.ratios, steps, k, curriculum.curve)

    # Not pyplot: a library leaves its global state alone.
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    depth = Normalize(0, max(max(ranks), 1))
    # The brightest end of the colormap is too pale for a line on white.
    colours = colormaps["viridis"].resampled(256)
    for j, group in enumerate(groups):
        axes.plot(
            steps,
            [row[j] for row in rates],
            color=colours(0.92 * depth(ranks[j])),
            label=str(group.get("name", f"group {j}")),
            drawstyle="steps-post" if curriculum.curve == "decades" else "default",
        )
    axes.axvline(k, color="0.5", linestyle="--", linewidth=1, zorder=0)
    return figure
