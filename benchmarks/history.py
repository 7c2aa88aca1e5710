"""The history of the benchmarks: docs/results/benchmarks.csv, a line for each contender of each case.

Usage: python -m benchmarks.history RECORD.json ...    appends records of pytest-benchmark, such as those in runs/bench

The first contender of a case is the subject, the others are its peers. `iqr_s` and `rounds` are those of the subject,
and `bytes_moved` is what it must move. `ratio_within_rounds` is the median, over the rounds, of the subject's time over
the peer's. `host_median_s` is the time on the host of a call whose work a GPU does. A + after the commit means that
files had changed since. A record that is in the history already is not added again.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

HISTORY = Path(__file__).resolve().parent.parent / "docs" / "results" / "benchmarks.csv"


class Row(NamedTuple):
    date: str
    commit: str
    machine: str
    torch: str
    benchmark: str
    case: str
    contender: str
    median_s: float
    iqr_s: float | None = None
    rounds: int | None = None
    bytes_moved: int | None = None
    ratio_within_rounds: float | None = None
    host_median_s: float | None = None


# Of the columns that are not text.
_NUMBERS = {"rounds": int, "bytes_moved": int} | dict.fromkeys(
    ("median_s", "iqr_s", "ratio_within_rounds", "host_median_s"), float
)


def from_record(record: dict[str, Any]) -> list[Row]:
    """The rows of a record of pytest-benchmark."""
    commit = record["commit_info"]["id"][:9] + "+" * record["commit_info"]["dirty"]
    built = record["machine_info"]["lerac_fast"]
    processor = f"{record['machine_info']['cpu']['brand_raw']}, {built['threads']} threads, {built['cpu_capability']}"
    rows = []
    for benchmark in record["benchmarks"]:
        extra, stats = benchmark["extra_info"], benchmark["stats"]
        name = benchmark["name"].partition("[")[0].removeprefix("bench_")
        run = (record["datetime"][:19], commit, extra.get("device", processor), built["torch"], name, extra["case"])
        iqr = extra.get("iqr_us", stats["iqr"] * 1e6)  # stats count what goes before a timed call, too
        subject = {"iqr_s": _seconds(iqr), "rounds": stats["rounds"], "bytes_moved": extra["bytes_moved"]}
        for number, (contender, median) in enumerate(extra["median_us"].items()):
            rows.append(
                Row(
                    *run,
                    contender,
                    _seconds(median),
                    **(subject if number == 0 else {}),
                    ratio_within_rounds=extra.get("median_ratio_within_rounds", {}).get(contender),
                    host_median_s=_seconds(extra.get("host_median_us", {}).get(contender)),
                )
            )
    return rows


def _seconds(microseconds: float | None) -> float | None:
    return None if microseconds is None else round(microseconds / 1e6, 8)


def read(path: Path = HISTORY) -> list[Row]:
    """The rows of a history, or of a record of pytest-benchmark, by the ending of its name."""
    if path.suffix == ".json":
        return from_record(json.loads(path.read_text()))
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [Row(**{name: _value(name, text) for name, text in line.items()}) for line in csv.DictReader(file)]


def _value(column: str, text: str) -> Any:
    if column not in _NUMBERS:
        return text
    return _NUMBERS[column](text) if text else None


def newest(rows: list[Row]) -> list[Row]:
    """Of each benchmark, the rows of its last run."""
    last = {row.benchmark: row.date for row in sorted(rows, key=lambda row: row.date)}
    return [row for row in rows if row.date == last[row.benchmark]]


def append(records: list[Path], path: Path = HISTORY) -> int:
    """Adds the rows of records that are not in the history. Returns how many those are."""
    known = set(read(path))
    new = [row for record in records for row in read(record) if row not in known]
    begins = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if begins:
            writer.writerow(Row._fields)
        writer.writerows([_text(value) for value in row] for row in new)
    return len(new)


def _text(value: Any) -> Any:
    """Numbers without exponents, which spreadsheets take for text."""
    return f"{value:.8f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


if __name__ == "__main__":
    print(f"{append([Path(name) for name in sys.argv[1:]])} rows added to {HISTORY}")
