"""What was found, as tables: for people in a terminal, and in Markdown for the docs."""

from collections import Counter
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table

from tools.gpu_code.check import Findings
from tools.gpu_code.report import Report

COLUMNS = ("kernel", "target", "registers", "spills", "loads", "stores", "bytes / floor", "instructions", "occupancy")
EXPLANATION = (
    "Of one thread on the path of aligned tensors: its loads and stores of the tensors' elements, as bytes x number. "
    "Bytes moved for each element, counted from them, against the floor, which is every operand read or written once. "
    "Instructions for each element, where the path is one loop or one way. Occupancy: the share of a multiprocessor's "
    "threads that can be resident, for the registers, the shared memory and the threads of a block."
)


def _accesses(counter: Counter[int]) -> str:
    return " + ".join(f"{width} x {count}" for width, count in sorted(counter.items(), reverse=True)) or "-"


def _row(report: Report) -> tuple[str, ...]:
    found, traffic = report.bytes_per_element, report.traffic
    return (
        report.kernel,
        report.target.name,
        str(report.registers),
        str(report.spills),
        _accesses(traffic.loads) if traffic else "-",
        _accesses(traffic.stores) if traffic else "-",
        f"{found:g} / {report.floor:g}" if found is not None and report.floor is not None else "-",
        f"{report.instructions:.0f}" if report.instructions else "-",
        f"{report.occupancy:.0%}",
    )


def _merged(reports: Iterable[Report]) -> list[tuple[str, ...]]:
    """One row for targets that differ in nothing."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for report in reports:
        if report.is_listed:
            kernel, target, *rest = _row(report)
            rows.setdefault((kernel, *rest), []).append(target)
    order = list(dict.fromkeys(kernel for kernel, *_ in rows))
    merged = [(kernel, ", ".join(targets), *rest) for (kernel, *rest), targets in rows.items()]
    return sorted(merged, key=lambda row: order.index(row[0]))


def _tables(findings: Findings) -> list[tuple[str, list[tuple[str, ...]], list[str]]]:
    """Title, rows and remarks for each backend and operation."""
    groups: dict[tuple[str, str], list[Report]] = {}
    for report in findings.reports:
        groups.setdefault((report.backend, report.operation), []).append(report)
    return [
        (
            f"{backend}: {operation}, {len(group)} compiled kernels",
            _merged(group),
            list(dict.fromkeys(f"{r.kernel}: {note}" for r in group if r.is_listed for note in r.notes)),
        )
        for (backend, operation), group in sorted(groups.items(), key=lambda item: item[0][0])
    ]


def _summary(findings: Findings) -> list[str]:
    lines = [f"{backend} was skipped: {reason}" for backend, reason in findings.absent.items()]
    spilling = sum(report.spills > 0 for report in findings.reports)
    violations = findings.violations
    lines.append(f"{len(findings.reports)} kernels, {spilling} of them with spills; {len(violations)} violations")
    return lines + violations


def show(findings: Findings) -> None:
    console = Console(width=180, highlight=False)
    for title, rows, notes in _tables(findings):
        table = Table(*COLUMNS, title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        for note in notes:
            console.print(f"  {note}", style="dim")
    console.print(EXPLANATION, style="dim")
    for line in _summary(findings):
        console.print(line, markup=False, soft_wrap=True)


def markdown(findings: Findings) -> str:
    parts = [EXPLANATION]
    for title, rows, notes in _tables(findings):
        table = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
        table += ["| " + " | ".join(row) + " |" for row in rows]
        parts += [f"### {title}", "\n".join(table), *(["\n".join(f"- {note}" for note in notes)] if notes else [])]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in _summary(findings))]) + "\n"
