"""The command `lerac-fast report`: merges whatever trials have ended into tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markdown import Markdown

from lerac_fast.experiments.errors import ExperimentError
from lerac_fast.experiments.files import replacing
from lerac_fast.experiments.report.figures import write_figures
from lerac_fast.experiments.report.records import Cell, Record, cells_of, read_folder, read_lines, write_lines
from lerac_fast.experiments.report.tables import (
    Table,
    comparison_table,
    score_table,
    settings_table,
    wrong_labels_table,
)

_AGAINST = "Against conventional training"

_NOTES = """\
Means and standard deviations (N - 1) over the runs, of the weights of the epoch with the best validation. The best of
each model and data set is bold. "Against conventional" is the mean of the differences between runs of the same seed.
McNemar's test is between such runs, on the same test examples; printed is twice the median of its p-values over the
seeds, which is a p-value however these depend on each other, and in how many seeds the regime is better and worse with
p < 0.05. Overhead is the median ratio of the times per epoch of runs of the same seed. These runs were not interleaved,
so that times hold for an idle machine only; `make bench` measures overheads in interleaved pairs.
"""


@dataclass(frozen=True)
class Report:
    """Merge the trials that have ended into the papers' tables, as Markdown and LaTeX, and into figures."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of experiments; or files of JSON lines that earlier reports have written."""
    output: Path | None = None
    """Where the report is written; None, FOLDER/report of the first folder."""
    title: str | None = None
    """None, the name of the first experiment."""

    def run(self) -> None:
        """Reads, writes report.md, report.tex, records.jsonl and the figures, and prints the tables.

        Raises:
            ExperimentError: there is no manifest, a record is damaged, or no trial has ended.
            OSError: the output cannot be written.
        """
        if not self.folders:
            raise ExperimentError("give the folder of an experiment")
        planned, records, name = 0, [], self.folders[0].stem
        for place in self.folders:
            if place.is_file():
                found = read_lines(place)
                planned += len(found)
            else:
                manifest, found = read_folder(place)
                planned += len(manifest)
                name = manifest.name if place == self.folders[0] else name
            records += found
        records = _one_each(records)
        cells = cells_of(records)
        if not records:
            raise ExperimentError(f"none of the {planned} trials has ended yet: `lerac-fast run {self.folders[0]}`")
        first = self.folders[0]
        output = self.output or (first.parent if first.is_file() else first) / "report"
        output.mkdir(parents=True, exist_ok=True)
        tables = _tables(cells)
        figures = write_figures(cells, output)
        text = _markdown(self.title or name, planned, records, tables, figures)
        for file, content in (("report.md", text), ("report.tex", "\n\n".join(t.latex() for t in tables) + "\n")):
            with replacing(output / file) as temporary:
                temporary.write_text(content, encoding="utf-8")
        write_lines(output / "records.jsonl", records)
        console = Console()
        for table in tables:
            if table.title.startswith("Test "):  # the others are too wide for a terminal
                console.print(Markdown(f"**{table.title}**\n\n{table.markdown()}"))
            elif table.title == _AGAINST:
                for line in _in_words(table):
                    console.print(line, highlight=False, markup=False)
        for reason, names in _not_done(records).items():
            text = f"Not done: {len(names)} trials, {names[0]} the first: {reason}"
            console.print(text, highlight=False, markup=False)
        console.print(f"{len(records)} of {planned} trials have ended. The report is in {output}/", highlight=False)


def _tables(cells: Sequence[Cell]) -> list[Table]:
    if not cells:
        return []
    tables = [
        *(
            score_table(f"Test {metric}", [cell for cell in cells if cell.metric == metric])
            for metric in dict.fromkeys(cell.metric for cell in cells)
        ),
        comparison_table(_AGAINST, cells),
        wrong_labels_table("Wrong labels among the highest temperatures", cells),
        settings_table("Settings", cells),
    ]
    return [table for table in tables if table.rows]


def _in_words(comparison: Table) -> list[str]:
    """A line for each regime that is compared with conventional training."""
    lines = []
    for row in comparison.rows:
        of = dict(zip(comparison.columns, row, strict=True))
        if of["against conventional"]:
            p_value = of["McNemar p (better, worse)"]
            tested = f", McNemar p {p_value.replace('(', '(seeds better, worse: ')}" if p_value else ""
            time = f", time per epoch {of['overhead']}" if of["overhead"] else ""
            lines.append(
                f"{of['model']} on {of['data']}, {of['regime']}: {of['against conventional']} against conventional"
                f"{tested}{time}"
            )
    return lines


def _markdown(
    title: str, planned: int, records: Sequence[Record], tables: Sequence[Table], figures: dict[str, str]
) -> str:
    done = [record for record in records if record.done]
    lines = [f"# {title}", "", f"{len(done)} of {planned} trials are done.", "", _NOTES]
    for table in tables:
        lines += [f"## {table.title}", "", table.markdown(), ""]
    lines += ["## Figures", ""] if figures else []
    for file, caption in figures.items():
        lines += [f"![{caption}]({file})", "", f"{caption}.", ""]
    notes = dict.fromkeys(_data_note(record) for record in done)
    lines += ["## Data", "", *(f"- {note}" for note in notes), ""] if notes else []
    not_done = _not_done(records)
    lines += ["## Not done", ""] if not_done else []
    for reason, names in not_done.items():
        lines += [f"{reason}", "", *(f"- {name}" for name in names), ""]
    lines += ["## Machines", "", *(f"- {machine}" for machine in dict.fromkeys(record.machine for record in done)), ""]
    return "\n".join(lines).rstrip() + "\n"


def _not_done(records: Sequence[Record]) -> dict[str, list[str]]:
    """The trials that ended badly, by the reason."""
    reasons: dict[str, list[str]] = {}
    for record in records:
        if not record.done:
            reason = f"{record.content['status']}: {record.content['error']}"
            reasons.setdefault(reason, []).append(record.trial.name)
    return reasons


def _one_each(records: Sequence[Record]) -> list[Record]:
    """One record of each trial: one that is done, if any is."""
    found: dict[str, Record] = {}
    for record in records:
        before = found.get(record.trial.id)
        if before is None or not before.done:
            found[record.trial.id] = record
    return list(found.values())


def _data_note(record: Record) -> str:
    data = record.content["data"]
    return f"{record.trial.data}: {data['source']}." + (f" {data['note']}" if data["note"] else "")
