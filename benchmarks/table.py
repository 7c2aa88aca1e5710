"""Prints the record that ``make bench`` writes as the Markdown tables of docs/performance.md.

Usage: python -m benchmarks.table RECORD.json
"""

import json
import sys
from pathlib import Path
from typing import Any

SHORT = {
    "lerac_fast, one group": "one group of ours",
    "torch fused, one group": "torch fused, one group",
    "torch fused, group per tensor": "torch fused, per tensor",
    "torch default, group per tensor": "torch default, per tensor",
    "torch foreach, one group": "torch foreach, one group",
    "torch loop, one group": "torch loop, one group",
    "DeepSpeed CPUAdam, one group": "DeepSpeed, one group",
}


def rows(benchmarks: list[dict[str, Any]], prefix: str) -> list[list[str]]:
    """A row per case: the subject's milliseconds, its ratio to every peer, its share of the limit."""
    table = []
    for benchmark in benchmarks:
        if not benchmark["name"].startswith(prefix):
            continue
        info = benchmark["extra_info"]
        medians, ratios = info["median_us"], info["ratio"]
        subject = next(iter(medians.values())) / 1e3
        cells = [f"{ratios[name]:.2f}" if name in ratios else "" for name in SHORT]
        table.append([info["case"], f"{subject:.2f}", *cells, str(info.get("share_of_limit", ""))])
    return table


def markdown(benchmarks: list[dict[str, Any]], prefix: str) -> str:
    head = ["case", "ms, group per tensor", *SHORT.values(), "share of limit"]
    body = rows(benchmarks, prefix)
    used = [i for i in range(len(head)) if any(row[i] for row in body)]
    lines = [[head[i] for i in used], ["---"] * len(used), *([row[i] for i in used] for row in body)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    record = json.loads(Path(sys.argv[1]).read_text())
    for prefix in ("bench_float32", "bench_bfloat16", "bench_host_cost"):
        print(f"\n### {prefix.removeprefix('bench_')}\n\n{markdown(record['benchmarks'], prefix)}")
