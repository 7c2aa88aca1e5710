"""The tables of a report, as Markdown and as LaTeX."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import rich.table
from rich.text import Text

from lerac_experiments import terminal
from lerac_experiments.report.records import Cell, among_curricula, baselines, comparison_key
from lerac_experiments.report.statistics import Comparison, Overhead, compare, mean_and_deviation
from lerac_experiments.training.regimes import REGIMES

DIFFERENCE, P_VALUE = "against conventional", "p"
SEEDS_P, MCNEMAR_P = "p over seeds", "McNemar p (better, worse)"
"""Columns of the comparison."""

BOLD = "\0"
"""Marks a text that is to be bold, at its start."""


@dataclass(frozen=True)
class Table:
    """Texts in rows and columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 2
    """How many of the columns are text, to be aligned left."""

    def markdown(self) -> str:
        """As Markdown, without the title."""
        align = ["---"] * self.left + ["---:"] * (len(self.columns) - self.left)
        lines = [self.columns, align, *([_markdown(text) for text in row] for row in self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def rich(self) -> rich.table.Table:
        """As rich prints it."""
        made = terminal.table(*self.columns, title=self.title)
        for row in self.rows:
            made.add_row(*(Text(text.lstrip(BOLD), style="bold" if text.startswith(BOLD) else "") for text in row))
        return made

    def latex(self) -> str:
        """As a LaTeX table; needs the package booktabs."""
        align = "l" * self.left + "r" * (len(self.columns) - self.left)
        body = "\n".join(" & ".join(_latex(text) for text in row) + r" \\" for row in self.rows)
        head = " & ".join(_latex(text) for text in self.columns) + r" \\"
        return "\n".join(
            (
                r"\begin{table}",
                rf"\caption{{{_latex(self.title)}}}",
                rf"\begin{{tabular}}{{{align}}}",
                r"\toprule",
                head,
                r"\midrule",
                body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
            )
        )


def score_table(title: str, cells: Sequence[Cell]) -> Table:
    """The papers' table: a row for each model and regime, a column for each data set.

    The best of a model on a data set, and those of which the printed mean is the same, are bold.
    """
    data = list(dict.fromkeys(cell.data_title for cell in cells))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    texts = {id(cell): _score(cell) + _mark(cell) for cell in cells}
    for cell in cells:
        place = (cell.model_title, cell.data_title)
        rivals = [c for c in cells if (c.model_title, c.data_title) == place and not c.is_oracle]
        text = texts[id(cell)]
        equals_best = not cell.is_oracle and text.split(" ")[0] == texts[id(_best(rivals))].split(" ")[0]
        bold = BOLD if len(rivals) > 1 and equals_best else ""
        rows.setdefault((cell.model_title, cell.regime_title), {})[cell.data_title] = bold + text
    body = tuple((*key, *(row.get(name, "") for name in data)) for key, row in rows.items())
    return Table(title, ("model", "regime", *data), body)


def comparison_table(title: str, cells: Sequence[Cell]) -> Table:
    """Every regime against conventional training on the same model, data and seeds."""
    rows = []
    for cell, compared in _compared(cells):
        _, unit = _scale(cell)
        epochs, _ = mean_and_deviation(cell.epochs)
        rows.append(
            (
                cell.model_title,
                cell.data_title,
                cell.regime_title + _mark(cell),
                _score(cell) + unit + cell.direction,
                *(("", "", "", "") if compared is None else _differences(cell, compared)),
                f"{epochs:.0f}",
                str(len(cell.records)),
            )
        )
    columns = (
        *("model", "data", "regime", "test"),
        *(DIFFERENCE, P_VALUE, SEEDS_P, MCNEMAR_P),
        *("epochs", "runs"),
    )
    return Table(title, columns, tuple(rows), left=3)


def curricula_table(title: str, cells: Sequence[Cell], regime: str) -> Table:
    """Every other curriculum against this one, with the tests that the authors of LeRaC report of its curves."""
    rows = []
    for cell, other in among_curricula(cells, regime):
        if (compared := compare(cell, other)) is not None:
            rows.append((cell.model_title, cell.data_title, cell.regime_title, *_differences(cell, compared)))
    columns = ("model", "data", "regime", "difference", P_VALUE, SEEDS_P, MCNEMAR_P)
    return Table(title, columns, tuple(rows), left=3)


def grid_table(title: str, cells: Sequence[Cell]) -> Table:
    """Every combination of the settings that were chosen among, on the validation part."""
    rows = []
    for cell in cells:
        chosen = [record.trial.id for record in cell.records]
        for rival in cell.rivals:
            scale, unit = _scale(rival)
            mean, deviation = mean_and_deviation(scale * rival.validations)
            score = f"{mean:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}") + unit + rival.direction
            is_chosen = [record.trial.id for record in rival.records] == chosen
            rows.append(
                (
                    rival.model_title,
                    rival.data_title,
                    REGIMES[rival.trial.regime].title,
                    rival.regime_variant,
                    (BOLD if is_chosen else "") + score,
                    str(len(rival.records)),
                    "chosen" if is_chosen else "",
                )
            )
    return Table(title, ("model", "data", "regime", "settings", "validation", "runs", ""), tuple(rows), left=4)


def time_table(title: str, cells: Sequence[Cell]) -> Table:
    """What a training step and an epoch of every regime take: the least mean of a run, and what it takes more than
    conventional training on the same model, data and seeds."""
    rows = []
    for cell, compared in _compared(cells):
        step = min(record.seconds_per_epoch() / record.steps for record in cell.records)
        epoch = min(record.seconds_per_epoch() for record in cell.records)
        overhead = "" if compared is None or compared.overhead is None else _overhead(compared.overhead)
        times = f"{1e3 * step:.1f}", f"{epoch:.3g}"
        rows.append((cell.model_title, cell.data_title, cell.regime_title, *times, overhead))
    columns = ("model", "data", "regime", "ms per step, least", "s per epoch, least", "overhead")
    return Table(title, columns, tuple(rows), left=3)


def _compared(cells: Sequence[Cell]) -> Iterator[tuple[Cell, Comparison | None]]:
    """The cells, each with its comparison with conventional training on the same model and data, if there is one."""
    conventional = baselines(cells)
    for cell in cells:
        baseline = conventional.get(comparison_key(cell))
        yield cell, None if baseline is None or baseline is cell else compare(cell, baseline)


def _differences(cell: Cell, compared: Comparison) -> tuple[str, str, str, str]:
    """The difference, and its p-values: altogether, over seeds, and over test examples."""
    scale, _ = _scale(cell)
    difference = f"{scale * compared.difference:+.2f}"
    if compared.difference_deviation is not None:
        difference += f" ± {scale * compared.difference_deviation:.2f}"
    if compared.mcnemar_p is not None:
        over_examples = f"{_p(compared.mcnemar_p)} ({compared.better}, {compared.worse})"
    else:
        over_examples = "" if cell.is_classification else "not applicable"
    return difference + cell.direction, _p(compared.p_value), _p(compared.seeds_p), over_examples


def _overhead(measured: Overhead) -> str:
    interval = f"{100 * measured.low:+.1f} to {100 * measured.high:+.1f}%"
    return f"within noise ({interval})" if measured.is_noise else f"{100 * measured.estimate:+.1f}% ({interval})"


def _mark(cell: Cell) -> str:
    return "" if cell.ended else " (did not end)"


def wrong_labels_table(title: str, cells: Sequence[Cell]) -> Table:
    """Which share of the wrong labels have temperatures among the highest, as many as there are wrong labels."""
    rows = []
    for cell in cells:
        found = [record.content["result"].get("wrong_found") for record in cell.records]
        known = np.array([share for share in found if share is not None])
        if len(known):
            mean, deviation = mean_and_deviation(100.0 * known)
            text = f"{mean:.1f}%" if deviation is None else f"{mean:.1f} ± {deviation:.1f}%"
            rows.append((cell.model_title, cell.data_title, cell.regime_title, text))
    return Table(title, ("model", "data", "regime", "found"), tuple(rows), left=3)


def details_table(title: str, cells: Sequence[Cell]) -> Table:
    """What else was measured of the test part, in percent: a column for each name."""
    of_cells = [(cell, [record.content["result"].get("details") for record in cell.records]) for cell in cells]
    known = [(cell, details) for cell, details in of_cells if all(details)]
    names = list(dict.fromkeys(name for _, details in known for name in details[0]))
    rows = []
    for cell, details in known:
        texts = []
        for name in names:
            values = np.array([each[name] for each in details if name in each])
            texts.append(_mean(100.0 * values) if len(values) else "")
        rows.append((cell.model_title, cell.data_title, cell.regime_title, *texts))
    return Table(title, ("model", "data", "regime", *names), tuple(rows), left=3)


def settings_table(title: str, cells: Sequence[Cell]) -> Table:
    """How the models were trained: as in the paper's Table 1."""
    rows: dict[tuple[str, ...], None] = {}
    for cell in cells:
        s, p = cell.trial.settings, cell.trial.protocol
        sizes = cell.records[0].content["sizes"]
        rows[
            cell.model_title,
            cell.data_title,
            f"{s.optimizer}, weight decay {s.weight_decay:g}",
            str(s.batch_size),
            str(s.epochs),
            f"{s.lr:g} .. {s.min_lr:g}",
            f"{s.lerac_epochs:g}",
            f"{s.sigma:g}, {s.decay:g}, {s.cbs_every:g}",
            p.schedule,
            f"{sizes['train']:,} / {sizes['validation']:,} / {sizes['test']:,}",
        ] = None
    columns = (
        "model",
        "data",
        "optimizer",
        "batch",
        "epochs",
        "eta_1 .. eta_n",
        "k",
        "CBS sigma, d, u",
        "rate falls by",
        "train / validation / test",
    )
    return Table(title, columns, tuple(rows), left=3)


def _scale(cell: Cell) -> tuple[float, str]:
    """Shares are printed in percent."""
    return (100.0, "%") if cell.higher_is_better else (1.0, "")


def _score(cell: Cell) -> str:
    return _mean(_scale(cell)[0] * cell.scores)


def _mean(values: np.ndarray) -> str:
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")


def _best(cells: Sequence[Cell]) -> Cell:
    sign = 1.0 if cells[0].higher_is_better else -1.0
    return max(cells, key=lambda cell: sign * float(cell.scores.mean()))


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _markdown(text: str) -> str:
    return f"**{text[1:]}**" if text.startswith(BOLD) else text


def _latex(text: str) -> str:
    escaped = text.lstrip(BOLD)
    for plain, written in (("%", r"\%"), ("_", r"\_"), ("±", r"$\pm$"), ("&", r"\&"), ("<", "$<$")):
        escaped = escaped.replace(plain, written)
    return rf"\textbf{{{escaped}}}" if text.startswith(BOLD) else escaped
