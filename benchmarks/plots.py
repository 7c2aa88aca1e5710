"""Draws the step time over the number of param groups from the record that ``make bench`` writes.

Usage: python -m benchmarks.plots RECORD.json PICTURE.png
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {"lerac_fast": "#0072B2", "torch fused": "#E69F00", "torch default": "#999999"}  # Okabe and Ito's


def draw(record: Path, picture: Path) -> None:
    benchmarks = json.loads(record.read_text())["benchmarks"]
    points = {
        int(b["params"]["groups"]): b["extra_info"]["median_us"]
        for b in benchmarks
        if b["name"].startswith("bench_number_of_groups")
    }
    groups = sorted(points)
    figure, axes = plt.subplots(figsize=(4.8, 3.2), layout="constrained")
    for name, colour in COLOURS.items():
        times = [points[n][name] / 1e3 for n in groups]
        axes.plot(groups, times, marker="o", markersize=4, color=colour)
        axes.annotate(name, (groups[-1], times[-1]), (-4, 5), textcoords="offset points", ha="right", color=colour)
    axes.set(
        xscale="log",
        xlabel="param groups",
        ylabel="time of optimizer.step() [ms]",
        ylim=(0, 1.12 * max(max(p.values()) for p in points.values()) / 1e3),
    )
    axes.set_xticks(groups, [str(n) for n in groups], minor=False)
    axes.minorticks_off()
    axes.set_title("AdamW, DenseNet-121 (364 tensors), 2 CPU cores", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=150)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
