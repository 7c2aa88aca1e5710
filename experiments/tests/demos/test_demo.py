"""`lerac-fast demo` from the command line to its files, on scikit-learn's digits."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from lerac_experiments.cli import main
from lerac_experiments.data import fashion_mnist
from lerac_experiments.data.source import Unavailable
from lerac_experiments.demos import demo
from lerac_experiments.demos.demo import TIMED_OPTIMIZERS
from lerac_experiments.demos.regimes import REGIMES

QUICK = ("--train-images", "300", "--epochs", "2", "--batch-size", "15", "--cbs-epochs", "1")


@dataclass
class Finished:
    """A demo that has run."""

    printed: str
    folder: Path
    record: dict[str, Any]


def run_demo(folder: Path, capsys: pytest.CaptureFixture[str], *args: str) -> Finished:
    assert main(["demo", *QUICK, "--output", str(folder), *args]) == 0
    record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return Finished(capsys.readouterr().out, folder, record)


@pytest.fixture(autouse=True)
def _few_timed_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TIMED_OPTIMIZER_STEPS", 3)


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished = run_demo(tmp_path / "runs" / "demo", capsys, "--data", "digits", "--seed", "7")
    record = finished.record

    measured = {(row["measure"], row["subject"]): row for row in record["table"]}
    assert measured.keys() == {
        *(("test accuracy", name) for name in REGIMES),
        *(("step, CBS active", name) for name in REGIMES),
        *(("step, CBS retired", name) for name in REGIMES),
        *(("optimizer step", name) for name in TIMED_OPTIMIZERS),
    }
    for (measure, _), row in measured.items():
        assert row["unit"] == ("fraction" if measure == "test accuracy" else "s")
        assert 0 < row["value"] < (1 if measure == "test accuracy" else math.inf)
    assert record["data"] | {"source": ""} == {
        "name": "digits",
        "source": "",
        "note": None,
        "train": 270,
        "validation": 30,
        "test": 360,
    }
    settings = record["settings"]
    assert (settings["seed"], settings["batch_size"], settings["total_iters"]) == (7, 15, 36)
    assert (settings["lerac_iters"], settings["cbs_every"]) == (9, 1)
    assert record["machine"]["cpu"]
    assert record["versions"]["torch"]
    for name in REGIMES:
        assert len(record["epochs"][name]["training_losses"]) == 2
        assert len(record["epochs"][name]["validation_accuracies"]) == 2
    depths = [*record["model"]["layers"].values()]
    assert depths == sorted(depths)
    assert depths[0] == 1

    printed = " ".join(finished.printed.split())
    for expected in ("ResNet on digits", "scikit-learn", "270 train, 30 validation, 360 test", "seed 7"):
        assert expected in printed
    for measure, subject in measured:
        assert measure in printed
        assert subject in printed
    assert "instead of" not in printed


def test_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_demo(tmp_path, capsys, "--data", "digits", "--epochs", "1")
    for name in ("learning_rates.png", "learning_curves.png"):
        picture = imread(tmp_path / name)
        assert min(picture.shape[:2]) > 400
        assert picture[..., :3].std() > 0.05, "it is not blank"


def test_demo_repeats_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again = (run_demo(tmp_path / folder, capsys, "--data", "digits").record for folder in ("first", "again"))

    def outcome(record: dict[str, Any]) -> tuple[Any, Any]:
        return record["epochs"], [row["value"] for row in record["table"] if row["unit"] == "fraction"]

    assert outcome(first) == outcome(again)


def test_the_table_says_where_digits_stand_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object) -> None:
        raise Unavailable("no route to host")

    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "missing")
    monkeypatch.setattr(fashion_mnist, "download", no_network)
    finished = run_demo(tmp_path / "demo", capsys, "--epochs", "1")
    assert "Note: digits instead of Fashion-MNIST" in " ".join(finished.printed.split())
    assert "no route to host" in finished.record["data"]["note"]
