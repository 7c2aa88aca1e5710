"""Draws the step time over the number of param groups, by the last run in the history of the benchmarks.

Usage: python -m benchmarks.plots PICTURE.png
"""

import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.history import Row, newest, read

COLOURS = {"lerac_fast": "#0072B2", "torch fused": "#E69F00", "torch default": "#999999"}  # Okabe and Ito's


def draw(rows: list[Row], picture: Path) -> None:
    points: dict[int, dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row.benchmark == "number_of_groups":
            points[int(row.case.removesuffix(" groups"))][row.contender] = row.median_s * 1e3
    groups = sorted(points)
    figure, axes = plt.subplots(figsize=(4.8, 3.2), layout="constrained")
    for name, colour in COLOURS.items():
        times = [points[n][name] for n in groups]
        axes.plot(groups, times, marker="o", markersize=4, color=colour)
        axes.annotate(name, (groups[-1], times[-1]), (-4, 5), textcoords="offset points", ha="right", color=colour)
    axes.set(
        xscale="log",
        xlabel="param groups",
        ylabel="time of optimizer.step() [ms]",
        ylim=(0, 1.12 * max(max(p.values()) for p in points.values())),
    )
    axes.set_xticks(groups, [str(n) for n in groups], minor=False)
    axes.minorticks_off()
    axes.set_title("AdamW, DenseNet-121 (364 tensors), 2 CPU cores", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=150)


if __name__ == "__main__":
    draw(newest(read()), Path(sys.argv[1]))
