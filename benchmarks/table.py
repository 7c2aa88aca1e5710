"""Prints a record that ``make bench`` writes as the Markdown tables of docs/performance.md.

Usage: python -m benchmarks.table RECORD.json
"""

import json
import sys
from pathlib import Path
from typing import Any

SHORT = {
    "lerac_fast, group per tensor": "group per tensor",
    "lerac_fast, one group": "one group of ours",
    "torch fused, group per tensor": "torch fused, per tensor",
    "torch default, group per tensor": "torch default, per tensor",
    "DeepSpeed CPUAdam, one group": "DeepSpeed, one group",
}


def markdown(benchmarks: list[dict[str, Any]]) -> str:
    """A row per case: the subject's milliseconds, its ratio to every peer, its share of the limit."""
    infos = [benchmark["extra_info"] for benchmark in benchmarks]
    subject = next(iter(infos[0]["median_us"]))
    peers = list(dict.fromkeys(name for info in infos for name in info["ratio"] if name != "stream limit"))
    limited = any("share_of_limit" in info for info in infos)
    head = ["case", f"ms, {SHORT.get(subject, subject)}", *(SHORT.get(peer, peer) for peer in peers)]
    lines = [head + ["share of limit"] * limited]
    lines.append(["---"] * len(lines[0]))
    for info in infos:
        ratios = [f"{info['ratio'][peer]:.2f}" if peer in info["ratio"] else "" for peer in peers]
        share = [str(info.get("share_of_limit", ""))] * limited
        lines.append([info["case"], f"{info['median_us'][subject] / 1e3:.2f}", *ratios, *share])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(path: Path) -> None:
    benchmarks = json.loads(path.read_text())["benchmarks"]
    for name in dict.fromkeys(benchmark["name"].partition("[")[0] for benchmark in benchmarks):
        chosen = [benchmark for benchmark in benchmarks if benchmark["name"].partition("[")[0] == name]
        print(f"\n### {name.removeprefix('bench_')}\n\n{markdown(chosen)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
