"""The history of the benchmarks reads what it writes, takes a record once, and is what the tables and pictures show."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import history, table


def record(date: str, **timed: dict[str, Any]) -> dict[str, Any]:
    """A record of pytest-benchmark, by benchmark and what the fixture `compare` adds."""
    return {
        "datetime": f"{date}.123456+00:00",
        "commit_info": {"id": "0123456789abcdef", "dirty": True},
        "machine_info": {
            "cpu": {"brand_raw": "A CPU"},
            "lerac_fast": {"torch": "2.14.1", "threads": 2, "cpu_capability": "avx2"},
        },
        "benchmarks": [
            {"name": f"bench_{name}[x]", "stats": {"iqr": 1.25e-7, "rounds": 7}, "extra_info": extra}
            for name, extra in timed.items()
        ],
    }


STEP = {
    "case": 'SGD, 2 x 64, "small"',
    "median_us": {"ours": 10.0, "torch, fused": 40.0, "stream limit": 5.0},
    "median_ratio_within_rounds": {"torch, fused": 0.2512, "stream limit": 2.0},
    "bytes_moved": 2**40,
}
ON_GPU = STEP | {"device": "A GPU", "iqr_us": 0.5, "host_median_us": {"ours": 3.5, "torch, fused": 30.0}}


def test_reads_what_it_writes(tmp_path: Path) -> None:
    source, path = tmp_path / "record.json", tmp_path / "history.csv"
    source.write_text(json.dumps(record("2026-01-01T00:00:00", step=STEP, on_gpu=ON_GPU)))
    assert history.append([source], path) == 6
    rows = history.read(path)
    assert rows == history.read(source)
    assert rows[0] == history.Row(
        date="2026-01-01T00:00:00",
        commit="012345678+",
        machine="A CPU, 2 threads, avx2",
        torch="2.14.1",
        benchmark="step",
        case='SGD, 2 x 64, "small"',
        contender="ours",
        median_s=1e-5,
        iqr_s=1.2e-7,  # to the nearest 10 ns
        rounds=7,
        bytes_moved=2**40,
    )
    assert rows[1][7:] == (4e-5, None, None, None, 0.2512, None)
    assert (rows[3].machine, rows[3].iqr_s, rows[3].host_median_s) == ("A GPU", 5e-7, 3.5e-6)


def test_a_record_is_added_once(tmp_path: Path) -> None:
    source, path = tmp_path / "record.json", tmp_path / "history.csv"
    source.write_text(json.dumps(record("2026-01-01T00:00:00", step=STEP)))
    assert [history.append([source], path) for _ in range(2)] == [3, 0]
    source.write_text(json.dumps(record("2026-01-02T00:00:00", step=STEP, other=STEP)))
    assert history.append([source], path) == 6
    assert [(row.date[:10], row.benchmark) for row in history.newest(history.read(path))[::3]] == [
        ("2026-01-02", "step"),
        ("2026-01-02", "other"),
    ]


def test_writing_the_history_again_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, path = history.read(), tmp_path / "history.csv"
    monkeypatch.setattr(history, "from_record", lambda _: rows)
    (tmp_path / "record.json").write_text("{}")
    assert history.append([tmp_path / "record.json"], path) == len(rows) > 900
    assert path.read_bytes() == history.HISTORY.read_bytes()


def test_the_table() -> None:
    assert table.markdown(history.from_record(record("2026-01-01T00:00:00", step=STEP))).splitlines() == [
        "| case | ms, ours | torch, fused | share of limit |",
        "| --- | --- | --- | --- |",
        '| SGD, 2 x 64, "small" | 0.01 | 0.25 | 0.5 |',
    ]
