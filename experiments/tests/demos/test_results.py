"""Tables and records."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from lerac_experiments.demos import results
from lerac_experiments.environment import environment
from lerac_experiments.files import write_json


def test_write_json(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, {"name": "µs"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "µs"}
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("value", [object(), {1}], ids=["an object", "a set"])
def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, value: object) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"value": value})
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {})
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_rows() -> None:
    rows = results.rows("time", {"ours": 2e-5, "theirs": 5e-4}, "s", ratios=True)
    assert [(row.subject, row.value, row.ratio) for row in rows] == [
        ("ours", 2e-5, 1.0),
        ("theirs", 5e-4, 25.0),
    ]
    assert [row.ratio for row in results.rows("accuracy", {"a": 0.5, "b": 0.25}, "fraction")] == [None, None]


def test_table() -> None:
    rows = [
        *results.rows("accuracy", {"conventional": 0.87654}, "fraction"),
        *results.rows("time", {"ours": 2e-5, "theirs": 4.321e-3}, "s", ratios=True),
        *results.rows("sigma", {"right": 0.12345, "wrong": 20.0}, "1"),
    ]
    console = Console(file=io.StringIO(), width=80, record=True)
    console.print(results.results_table(rows, title="The title", remarks=["First.", "Second."]))
    text = console.export_text()
    for expected in ("The title", "87.65%", "20.0 µs", "4.3 ms", "1.00", "216", "0.123", "20", "First.", "Second."):
        assert expected in text
    assert text.count("time") == 1, "a measure is named in its first row only"


def test_environment() -> None:
    described = json.loads(json.dumps(environment()))
    assert described["machine"]["cpu"]
    assert described["machine"]["cores"] >= 1
    assert described["versions"]["torch"]
    assert described["versions"]["lerac_fast"]
