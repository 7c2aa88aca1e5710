"""The results of an experiment: a table to read, a record as JSON, and on what machine they were obtained."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from lerac_experiments.data.images import ImageData
from lerac_experiments.demos.data import Splits
from lerac_experiments.demos.regimes import MOMENTUM, WEIGHT_DECAY
from lerac_experiments.environment import environment

Unit = Literal["fraction", "s", "1"]
"""Shares, seconds and plain numbers."""


@dataclass(frozen=True)
class Row:
    """One measured value."""

    measure: str
    subject: str
    """What was measured."""
    value: float
    unit: Unit
    ratio: float | None = None
    """To the first subject of the same measure."""


def rows(measure: str, values: Mapping[str, float], unit: Unit, *, ratios: bool = False) -> list[Row]:
    """The rows of one measure, in the order of `values`; with `ratios` to the first of them."""
    first = next(iter(values.values()))
    return [Row(measure, subject, value, unit, value / first if ratios else None) for subject, value in values.items()]


def results_table(rows: Sequence[Row], *, title: str, remarks: Sequence[str]) -> Table:
    """A table of all rows, with a rule between measures and the remarks below."""
    table = Table(title=title, caption=Text("\n".join(remarks)), caption_justify="left")
    table.add_column("measure")
    table.add_column("of")
    table.add_column("value", justify="right")
    table.add_column("ratio", justify="right")
    previous = None
    for row in rows:
        if previous is not None and row.measure != previous:
            table.add_section()
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}" if row.ratio >= 10 else f"{row.ratio:.2f}"
        table.add_row("" if row.measure == previous else row.measure, row.subject, _format(row), ratio)
        previous = row.measure
    return table


def _format(row: Row) -> str:
    if row.unit == "fraction":
        return f"{row.value:.2%}"
    if row.unit == "1":
        return f"{row.value:.3g}"
    return f"{row.value * 1e3:.1f} ms" if row.value >= 1e-3 else f"{row.value * 1e6:.1f} µs"


def remarks(images: ImageData, splits: Splits, own: Sequence[str], *, seed: int, threads: int) -> list[str]:
    """What is to be said below the table of an experiment: its `own` remarks, among those on data, seed and times."""
    sizes = ", ".join(f"{size:,} {part}" for part, size in splits.sizes.items())
    found = [
        f"Data: {images.source}; images: {sizes}.",
        *own,
        f"One short run from seed {seed}, no verdict: accuracies differ from seed to seed.",
        f"Times: medians of steps done by turns; threads: {threads}. Ratios: to the first row of the measure.",
    ]
    return found if images.note is None else [f"Note: {images.name} {images.note}.", *found]


def record(
    experiment: str, images: ImageData, splits: Splits, rows: Sequence[Row], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What every experiment's record says: its table, data, settings, and the machine."""
    return {
        "experiment": experiment,
        "table": [asdict(row) for row in rows],
        "data": {"name": images.name, "source": images.source, "note": images.note, **splits.sizes},
        "settings": {
            **settings,
            "output": str(settings["output"]),
            "optimizer": "SGD",
            "momentum": MOMENTUM,
            "weight_decay": WEIGHT_DECAY,
        },
        **environment(),
    }
