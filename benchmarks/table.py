"""Prints the history of the benchmarks, or a record that ``make bench`` writes, as the tables of docs/performance.md.

Usage: python -m benchmarks.table [RECORD.json | DATE]    the record, or the run of the history that began at a date, or
whose date begins so; without either, the last run of each benchmark in the history, whatever commit it was of
"""

import sys
from itertools import groupby
from pathlib import Path

from benchmarks.conftest import LIMIT
from benchmarks.history import HISTORY, Row, newest, read

SHORT = {
    "lerac_fast, group per tensor": "group per tensor",
    "lerac_fast, one group": "one group of ours",
    "torch fused, group per tensor": "torch fused, per tensor",
    "torch default, group per tensor": "torch default, per tensor",
    "DeepSpeed CPUAdam, one group": "DeepSpeed, one group",
}


def markdown(rows: list[Row]) -> str:
    """A row per case of one benchmark: the subject's milliseconds, its ratio to every peer, its share of the limit."""
    cases = {case: list(of_case) for case, of_case in groupby(rows, lambda row: row.case)}
    subject = rows[0].contender
    contenders = list(dict.fromkeys(row.contender for row in rows))
    peers = [name for name in contenders if name not in (subject, LIMIT)]
    limited = LIMIT in contenders
    head = ["case", f"ms, {SHORT.get(subject, subject)}", *(SHORT.get(peer, peer) for peer in peers)]
    lines = [head + ["share of limit"] * limited]
    lines.append(["---"] * len(lines[0]))
    for case, of_case in cases.items():
        medians = {row.contender: row.median_s for row in of_case}
        own = medians[subject]
        ratios = [f"{own / medians[peer]:.2f}" if peer in medians else "" for peer in peers]
        share = [str(round(medians[LIMIT] / own, 3)) if LIMIT in medians else ""] * limited
        lines.append([case, f"{own * 1e3:.2f}", *ratios, *share])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rows_of(which: str) -> list[Row]:
    """Of a record, by its path, or of the history's run of a date."""
    if which.endswith(".json"):
        return read(Path(which))
    rows = [row for row in read() if row.date.startswith(which)]
    if not rows:
        raise SystemExit(f"{HISTORY} has no run of {which}")
    return rows


def main(which: str) -> None:
    for name, rows in groupby(newest(rows_of(which)), lambda row: row.benchmark):
        print(f"\n### {name}\n\n{markdown(list(rows))}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
