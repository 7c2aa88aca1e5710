"""The command `lerac-fast report`: merges whatever trials have ended into tables and figures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lerac_experiments.errors import ExperimentError
from lerac_experiments.files import replacing
from lerac_experiments.models.registry import find_model
from lerac_experiments.report.figures import write_figures
from lerac_experiments.report.notes import GRID_NOTE, NOTES
from lerac_experiments.report.reading import Reading, write_lines
from lerac_experiments.report.records import Cell, Record, cells_of
from lerac_experiments.report.statistics import SIGNIFICANT
from lerac_experiments.report.tables import (
    DIFFERENCE,
    MCNEMAR_P,
    P_VALUE,
    Table,
    comparison_table,
    curricula_table,
    details_table,
    grid_table,
    score_table,
    settings_table,
    time_table,
    wrong_labels_table,
)
from lerac_experiments.terminal import say, stdout

MOST_NAMED = 5
"""Of what cannot be read, on the terminal; the report names all."""

_AGAINST = "Against conventional training"
_GRID = "Chosen among, by validation"
_TIMES = "Time of a training step"


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
            ExperimentError: no trial has ended; or, at the end, that manifests or records could not be read.
            OSError: the output cannot be written.
        """
        if not self.folders:
            raise ExperimentError("give the folder of an experiment")
        written = write_report(*self.folders, output=self.output, title=self.title)
        reading, records, cells = written.reading, written.reading.records, written.cells
        console = stdout()
        for line in _shortened([record for record in records if record.done]):
            say(console, line)
        for table in written.tables:
            if table.title == _TIMES or table.title.startswith("Test "):  # the others are too wide for a terminal
                console.print(table.rich())
            elif table.title == _AGAINST:
                for line in _in_words(table):
                    say(console, line)
        lines = [f"Chosen by validation: {line}" for line in _choices(cells)]
        lines += [f"Did not end: {line}" for line in _unended(cells)]
        for reason, names in _not_done(records).items():
            lines.append(f"Not done: {len(names)} trials, {names[0]} the first: {reason}")
        lines += _repeated(reading)
        lines.append(f"{len(records)} of {reading.planned} trials have ended. The report is in {written.output}/")
        for line in lines:
            say(console, line)
        if reading.unreadable:
            raise ExperimentError(
                f"the report goes without {len(reading.unreadable)} that could not be read: "
                f"{'; '.join(reading.unreadable[:MOST_NAMED])}"
            )


@dataclass(frozen=True)
class Written:
    """A report, once it is written."""

    output: Path
    """Its folder."""
    reading: Reading
    cells: Sequence[Cell]
    tables: Sequence[Table]


def write_report(*folders: Path, output: Path | None = None, title: str | None = None) -> Written:
    """Reads what has ended and writes report.md, report.tex, records.jsonl and the figures; as `Report.run`."""
    first, reading = folders[0], Reading(folders)
    records = reading.records
    if not records and reading.unreadable:
        raise ExperimentError("; ".join(reading.unreadable[:MOST_NAMED]))
    if not records:
        raise ExperimentError(f"none of the {reading.planned} trials has ended yet: `lerac-fast run {first}`")
    cells = cells_of(records)
    output = output or (first.parent if first.is_file() else first) / "report"
    output.mkdir(parents=True, exist_ok=True)
    tables = _tables(cells)
    figures = write_figures(cells, output)
    text = _markdown(title or reading.name, reading, cells, tables, figures)
    for file, content in (("report.md", text), ("report.tex", "\n\n".join(t.latex() for t in tables) + "\n")):
        with replacing(output / file) as temporary:
            # A path that is no UTF-8 may be part of a name.
            temporary.write_text(content, encoding="utf-8", errors="backslashreplace")
    write_lines(output / "records.jsonl", records)
    return Written(output, reading, cells, tables)


def _tables(cells: Sequence[Cell]) -> list[Table]:
    if not cells:
        return []
    tables = [
        *(
            score_table(f"Test {metric}", [cell for cell in cells if cell.metric + cell.direction == metric])
            for metric in dict.fromkeys(cell.metric + cell.direction for cell in cells)
        ),
        comparison_table(_AGAINST, cells),
        curricula_table("Against LeRaC (exponential)", cells, "lerac"),
        grid_table(_GRID, cells),
        time_table(_TIMES, cells),
        details_table("Average precision", cells),
        wrong_labels_table("Wrong labels among the highest temperatures", cells),
        settings_table("Settings", cells),
    ]
    return [table for table in tables if table.rows]


def _in_words(comparison: Table) -> list[str]:
    """A line for each regime that is compared with conventional training."""
    lines = []
    for row in comparison.rows:
        of = dict(zip(comparison.columns, row, strict=True))
        if of[DIFFERENCE]:
            said = [f"{of[DIFFERENCE]} against conventional"]
            said += [f"p {of[P_VALUE] or 'unknown'} ({_verdict(of[P_VALUE])})"]
            if "(" in of[MCNEMAR_P]:
                said += [f"McNemar's alone {of[MCNEMAR_P].replace('(', '(seeds better, worse: ')}"]
            lines.append(f"{of['model']} on {of['data']}, {of['regime']}: {', '.join(said)}")
    return lines


def _verdict(p_value: str) -> str:
    """What the p-value of a table says to those who do not deal in them."""
    if not p_value:
        return "several seeds would tell"
    return "hardly chance" if float(p_value.lstrip("<")) < SIGNIFICANT else "may be chance"


def _markdown(
    title: str, reading: Reading, cells: Sequence[Cell], tables: Sequence[Table], figures: dict[str, str]
) -> str:
    done = [record for record in reading.records if record.done]
    lines = [f"# {title}", "", f"{len(done)} of {reading.planned} trials are done.", *_repeated(reading), ""]
    for table in tables:
        lines += [f"## {table.title}", "", table.markdown(), ""]
    lines += ["## What the numbers mean", "", NOTES]
    lines += [GRID_NOTE] if any(table.title == _GRID for table in tables) else []
    lines += ["## Figures", ""] if figures else []
    for file, caption in figures.items():
        lines += [f"![{caption}]({file})", "", f"{caption}.", ""]
    lines += _section("Did not end", _unended(cells))
    lines += _section("Models", _shortened(done))
    lines += _section("Data", dict.fromkeys(_data_note(record) for record in done))
    not_done = _not_done(reading.records)
    lines += ["## Not done", ""] if not_done else []
    for reason, names in not_done.items():
        lines += [f"{reason}", "", *(f"- {name}" for name in names), ""]
    lines += _section("Not readable, and left out", reading.unreadable)
    lines += _section("Machines", dict.fromkeys(record.machine for record in done))
    return "\n".join(lines).rstrip() + "\n"


def _section(title: str, items: Iterable[str]) -> list[str]:
    """A list under a title, if there is anything in it."""
    lines = [f"- {item}" for item in items]
    return [f"## {title}", "", *lines, ""] if lines else []


def _unended(cells: Sequence[Cell]) -> list[str]:
    """The regimes that had not had their course when the training ended."""
    lines = []
    for cell in cells:
        for phase in dict.fromkeys(phase for record in cell.records for phase in record.unended):
            within = [record for record in cell.records if phase in record.unended]
            verdict = "says nothing of it" if phase.must_end else "was tested under it"
            lines.append(
                f"{cell.model_title} on {cell.data_title}, {cell.regime_title}: {phase.title} lasts "
                f"{phase.epochs(within[0].trial):g} epochs, by {phase.option}; the training ended before, and "
                f"{verdict}, in {len(within)} of {len(cell.records)} runs"
            )
    return lines


def _choices(cells: Sequence[Cell]) -> list[str]:
    """What was chosen of grids, all of which the report shows."""
    return [
        f"{cell.model_title} on {cell.data_title}, {cell.regime_title}, among {len(cell.rivals)} combinations"
        for cell in cells
        if cell.rivals
    ]


def _repeated(reading: Reading) -> list[str]:
    if not reading.repeated:
        return []
    return [f"{reading.repeated} records are of trials of which there is another one, and do not count."]


def _not_done(records: Sequence[Record]) -> dict[str, list[str]]:
    """The trials that ended badly, by the reason."""
    reasons: dict[str, list[str]] = {}
    for record in records:
        if not record.done:
            reason = f"{record.content['status']}: {record.content['error']}"
            reasons.setdefault(reason, []).append(record.trial.name)
    return reasons


def _shortened(records: Sequence[Record]) -> list[str]:
    """The models whose titles do not say all."""
    titles = {record.trial.model: find_model(record.trial.model).title for record in records}
    return [f"{title}: `{model}`" for model, title in titles.items() if "#" in title]


def _data_note(record: Record) -> str:
    data = record.content["data"]
    return f"{record.trial.data}: {data['source']}" + (f"; {data['note']}" if data["note"] else "")
