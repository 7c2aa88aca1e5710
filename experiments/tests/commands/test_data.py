"""The command `lerac-fast data`, and a training on each kind of one's own data."""

from pathlib import Path

import pytest

from experiments.tests.data.own import test_own_boxes, test_own_images, test_own_sounds, test_own_tables, test_own_texts
from experiments.tests.data.own.helpers import write
from lerac_experiments.cli import main
from lerac_experiments.trials.manifest import Manifest
from lerac_experiments.trials.store import TrialFolder


def shown(capsys: pytest.CaptureFixture[str], *args: str, status: int = 0) -> str:
    assert main(["data", *args]) == status
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return printed.out + printed.err


def test_data_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    test_own_images.folder_of(tmp_path, 10)
    write(tmp_path, {"cat/notes.txt": ""})
    printed = shown(capsys, f"images:{tmp_path}")
    assert f"classification of image data, read from {tmp_path}\n" in printed
    assert "│ examples │ 14    │ 2          │ 4    │" in printed
    assert "│ cat      │ 7     │ 1          │ 2    │" in printed
    assert printed.count("train ") == 1 + 5
    assert "Left out: .txt (1)\n  cat/notes.txt\n" in printed
    assert "Fingerprint: " in printed


def test_what_is_damaged_is_named_and_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test_own_images.folder_of(tmp_path, 10)
    write(tmp_path, {f"cat/bad{i:02}.png": "" for i in range(12)})
    printed = shown(capsys, f"images:{tmp_path}", status=1)
    assert "damaged images (12):\n" in printed
    assert "bad09.png" in printed
    assert "bad10.png is damaged" not in printed.partition("Left out")[0]
    assert "... and 2 more, which --all names" in printed
    assert "│ 14 " in printed, "the rest is shown"
    assert f"lerac-fast: error: images:{tmp_path} is not trained with: it has damaged images (12)" in printed
    assert "bad11.png is damaged" in shown(capsys, f"images:{tmp_path}", "--all", status=1)


def test_a_function(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = "import torch\ndef make(sides=(8, 8)): return [(torch.ones(3, *sides), i % 2) for i in range(20)]\n"
    write(tmp_path, {"mine.py": source})
    printed = shown(capsys, f"{tmp_path}/mine.py:make,sides=(9,7)", "--examples", "0")
    assert f"read from {tmp_path}/mine.py:make\n" in printed
    assert "│ examples │ 14 " in printed
    assert "train 0" not in printed


def test_built_in_data(capsys: pytest.CaptureFixture[str]) -> None:
    printed = shown(capsys, "digits", "--examples", "2")
    assert "classification of image data" in printed
    assert "1x8x8" in printed
    assert "of values" not in printed


def test_names_neither_are_markup_nor_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"\x1b[2J[bold]{i},{'[red]' if i % 2 else 'b'}\n" for i in range(20))
    printed = shown(capsys, f"texts:{write(tmp_path, {'[b].csv': 'text,label' + chr(10) + rows})}/[b].csv")
    assert "│ [red] " in printed
    assert "[b].csv\n" in printed
    assert "\x1b" not in printed


def test_values_and_many_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{i},c{i % 50:02}\n" for i in range(300))
    write(tmp_path, {"a.csv": "x,label\n" + rows})
    printed = shown(capsys, f"table:{tmp_path}/a.csv")
    assert "10 more classes" in printed
    printed = shown(capsys, f"table:{tmp_path}/a.csv,label=x,task=regression")
    assert "highest" in printed


MODELS = {"images": "lenet", "texts": "lstm-small", "sounds": "lenet", "boxes": "ssd-small", "table": "mlp"}


@pytest.mark.parametrize("reader", MODELS)
def test_it_trains(reader: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line to the record, which says what was left out."""
    place = tmp_path / "data"
    if reader == "images":
        write(test_own_images.folder_of(place), {"cat/bad.png": ""})
    elif reader == "sounds":
        write(test_own_sounds.folder_of(place), {"low/bad.wav": ""})
    elif reader == "boxes":
        write(test_own_boxes.write_yolo(place), {"labels/01.txt": "9 0.5 0.5 1 1"})
    else:
        text = test_own_texts.csv() + ",\n" if reader == "texts" else test_own_tables.table(more="x,red,no\n")
        write(place, {"a.csv": text + "too few\n"})
        place /= "a.csv"
    spec = f"{reader}:{place},skip-damaged"
    runs = tmp_path / "runs"
    options = ["--regimes", "lerac", "--seeds", "1", "--epochs", "2", "--lerac-epochs", "1", "--batch-size", "3"]
    assert main(["plan", str(runs), "--models", MODELS[reader], "--data", spec, *options]) == 0
    assert main(["run", str(runs), "--device", "cpu"]) == 0
    for trial in Manifest.read(runs):
        record = TrialFolder(runs, trial).record()
        assert record is not None
        assert record["status"] == "done", record
        assert "left out by skip-damaged" in record["data"]["note"]
    capsys.readouterr()
    assert main(["report", str(runs)]) == 0
    assert "1 of 1 trials have ended" in capsys.readouterr().out


def test_damaged_data_ends_a_trial_before_it_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(test_own_images.folder_of(tmp_path / "data"), {"cat/bad.png": ""})
    spec, runs = f"images:{tmp_path}/data", str(tmp_path / "runs")
    planned = main(["plan", runs, "--models", "lenet", "--data", spec, "--seeds", "1"])
    assert planned or main(["run", runs, "--device", "cpu"]) == 1
    printed = "".join(capsys.readouterr())
    assert "has damaged images (1)" in printed.replace("\n", " ")
    assert ",skip-damaged" in printed
