"""What reports read, and what they leave out."""

import json
import os
from pathlib import Path

import pytest

from experiments.tests.report.samples import record
from experiments.tests.trials.helpers import digits_trial, planned
from lerac_experiments.cli import main
from lerac_experiments.report.reading import Reading, write_lines
from lerac_experiments.report.records import cells_of
from lerac_experiments.trials.store import TrialFolder


@pytest.mark.usefixtures("no_figures")
def test_a_place_that_is_given_twice_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the same name, by another one, or as a copy."""
    trials = [digits_trial(seed=seed) for seed in range(2)]
    folder = planned(tmp_path / "four", *trials)
    TrialFolder(folder, trials[0]).path.mkdir(parents=True)
    TrialFolder(folder, trials[0]).write_record(record(trials[0], [1, 0]).content)
    (tmp_path / "link").symlink_to(folder)
    for other in (folder, folder / ".." / "four", tmp_path / "link"):
        assert main(["report", str(folder), str(other)]) == 0
        printed = capsys.readouterr().out
        assert "1 of 2 trials have ended" in printed
        assert "another one" not in printed
    lines = folder / "report" / "records.jsonl"
    assert main(["report", str(folder), str(lines)]) == 0
    said = "1 records are of trials of which there is another one, and do not count"
    assert said in " ".join(capsys.readouterr().out.split())
    text = (folder / "report" / "report.md").read_text()
    assert "1 of 2 trials are done" in text
    assert said in text


def without(*keys: str) -> str:
    """A record that lacks something."""
    content = json.loads(json.dumps(record(digits_trial(), [1]).content))
    part = content
    for key in keys[:-1]:
        part = part[key]
    del part[keys[-1]]
    return json.dumps(content)


DAMAGED = {
    "an empty object": "{}",
    "no object": "[1]",
    "half": without("sizes")[:100],
    "no sizes": without("sizes"),
    "no times": without("epochs", 1, "seconds"),  # type: ignore[arg-type]
    "no machine": without("environment", "machine"),
    "no rates": without("rates"),
    "no steps": without("steps_per_epoch"),
    "nested": "[" * 200_000,
    "NaN": json.dumps(record(digits_trial(), [1]).content).replace('"test": 1.0', '"test": NaN'),
    "no base64": json.dumps(record(digits_trial(), [1]).content).replace('"correct": "gA=="', '"correct": "?"'),
    "no text": b"\xff\xfe",
}


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("damage", DAMAGED)
def test_what_cannot_be_read_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    good, bad = digits_trial(seed=1), digits_trial()
    content = DAMAGED[damage]
    content = content if isinstance(content, bytes) else content.encode()
    folder = planned(tmp_path / "mine", good, bad)
    for trial, text in ((good, json.dumps(record(good, [1]).content).encode()), (bad, content)):
        stored = TrialFolder(folder, trial)
        stored.path.mkdir(parents=True)
        stored.record_path.write_bytes(text)
    lines = tmp_path / "lines.jsonl"
    lines.write_bytes(json.dumps(record(good, [1]).content).encode() + b"\n" + content + b"\n")
    for place, named in ((folder, str(TrialFolder(folder, bad).record_path)), (lines, f"{lines}, line 2")):
        assert main(["report", str(place)]) == 1
        printed = capsys.readouterr()
        assert f"the report goes without 1 that could not be read: {named}" in printed.err
        assert "Traceback" not in printed.err
        text = ((place if place.is_dir() else tmp_path) / "report" / "report.md").read_text()
        assert "1 of 2 trials are done" in text or place == lines
        assert f"## Not readable, and left out\n\n- {named}" in text


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("content", ["{}", "[" * 200_000, '{"format": 1, "name": "x", "trials": [[]]}', "[]", "nul"])
def test_a_damaged_manifest_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text(content)
    named = f"{tmp_path / 'bad' / 'manifest.json'}"
    assert main(["report", str(tmp_path / "bad")]) == 1
    assert named in capsys.readouterr().err
    write_lines(tmp_path / "good.jsonl", [record(digits_trial(), [1])])
    assert main(["report", str(tmp_path / "bad"), str(tmp_path / "good.jsonl"), "--output", str(tmp_path)]) == 1
    assert named in capsys.readouterr().err
    assert "1 of 1 trials are done" in (tmp_path / "report.md").read_text()


@pytest.mark.usefixtures("no_figures")
def test_names_are_no_markup_and_need_not_be_utf_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "[red]x[" / os.fsdecode(b"blue] \xff")
    place.mkdir(parents=True)
    folder = planned(place, digits_trial())
    TrialFolder(folder, digits_trial()).path.mkdir(parents=True)
    TrialFolder(folder, digits_trial()).write_record(record(digits_trial(), [1]).content)
    assert main(["report", str(folder)]) == 0
    assert "[red]x[/blue]" in capsys.readouterr().out
    assert (folder / "report" / "report.md").read_text().startswith("# blue] \\udcff\n")


def test_records_of_the_small_reproduction_are_read() -> None:
    reading = Reading([Path(__file__).parents[3] / "docs/results/small/records.jsonl"])
    assert (reading.planned, len(reading.records), reading.unreadable, reading.repeated) == (195, 195, [], 0)
    assert all(cell.ended for cell in cells_of(reading.records))
