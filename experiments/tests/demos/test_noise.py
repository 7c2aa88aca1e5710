"""`lerac-fast demo noise` from the command line to its files, on scikit-learn's digits."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread

from lerac_experiments.cli import main
from lerac_experiments.data.corrupt import corrupt_labels
from lerac_experiments.data.images import Labelled
from lerac_experiments.demos.noise_runs import Observer, Starter
from lerac_experiments.demos.runner import train
from lerac_experiments.models import ResNet
from lerac_fast import DataParameters

QUICK = (
    *("--data", "digits", "--train-images", "120", "--epochs", "2", "--batch-size", "20"),
    *("--random-images", "20", "--random-epochs", "3"),
)
RUNS = ("baseline", "class", "instance", "joint", "oracle")
PICTURES = ("noise_sigma.png", "noise_accuracy.png", "noise_random_labels.png")


@dataclass
class Finished:
    """A demo that has run."""

    printed: str
    record: dict[str, Any]


def run_noise(folder: Path, capsys: pytest.CaptureFixture[str], *args: str) -> Finished:
    assert main(["demo", "noise", *QUICK, "--output", str(folder), *args]) == 0
    record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return Finished(capsys.readouterr().out, record)


def test_noise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished = run_noise(tmp_path / "runs" / "noise", capsys, "--noise", "0.25", "--seed", "7")
    record = finished.record

    measured = {(row["measure"], row["subject"]): row for row in record["table"]}
    found = "wrong among top 25% by sigma"
    assert measured.keys() == {
        *(("test accuracy, last epoch", name) for name in RUNS),
        *(("test accuracy, best validation", name) for name in RUNS),
        *(
            ("mean sigma", f"{name}, {labels} labels")
            for name in ("instance", "joint")
            for labels in ("right", "wrong")
        ),
        *((found, f"{name}, epoch {epoch}") for name in ("instance", "joint") for epoch in (1, 2)),
        *(("random labels memorised", name) for name in RUNS[:3]),
        *(("training step", name) for name in RUNS),
    }
    for (measure, _), row in measured.items():
        assert row["value"] > 0
        assert row["unit"] == {"mean sigma": "1", "training step": "s"}.get(measure, "fraction")
        assert row["unit"] != "fraction" or row["value"] <= 1
    assert record["data"]["train"] == 108
    assert record["settings"]["noise"] == 0.25
    assert {
        name: {key: len(values) for key, values in record["epochs"][name].items() if key != "sigma"} for name in RUNS
    } == {
        name: dict.fromkeys(("training_losses", "validation_accuracies", "watched_test_accuracies"), 2) for name in RUNS
    }
    for name in RUNS:
        assert ("sigma" in record["epochs"][name]) == (name in ("instance", "joint"))
        if name in ("instance", "joint"):
            sigma = record["epochs"][name]["sigma"]
            assert sigma["found"] == [measured[found, f"{name}, epoch {epoch}"]["value"] for epoch in (1, 2)]
            assert sigma["clean"][-1]["mean"] == measured["mean sigma", f"{name}, right labels"]["value"]
    assert {name: len(values["training_accuracies"]) for name, values in record["random_label_epochs"].items()} == (
        dict.fromkeys(RUNS[:3], 3)
    )

    printed = " ".join(finished.printed.split())
    for expected in ("Wrong labels on digits", "27 training labels are wrong", "81 examples", "20 images", "seed 7"):
        assert expected in printed
    for measure, subject in measured:
        assert measure in printed
        assert subject in printed


def test_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_noise(tmp_path, capsys, "--epochs", "1")
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", *PICTURES}
    for name in PICTURES:
        picture = imread(tmp_path / name)
        assert min(picture.shape[:2]) > 400
        assert picture[..., :3].std() > 0.05, "it is not blank"


def test_noise_repeats_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again = (run_noise(tmp_path / folder, capsys).record for folder in ("first", "again"))

    def outcome(record: dict[str, Any]) -> tuple[Any, ...]:
        values = [row["value"] for row in record["table"] if row["unit"] != "s"]
        return record["epochs"], record["random_label_epochs"], values

    assert outcome(first) == outcome(again)


@pytest.mark.parametrize("seed", [0, 1])
def test_temperatures_find_wrong_labels_and_the_oracle_never_sees_them(seed: int) -> None:
    """On blobs that are easily told apart, the temperatures must part right from wrong labels."""
    torch.manual_seed(seed)
    classes, count = 4, 160
    labels = torch.arange(count) % classes
    images = torch.randn(count, 1, 8, 8) * 0.3
    images[torch.arange(count), 0, labels] += 2.0  # a bright row for every class
    noisy, corrupt = corrupt_labels(labels, classes, 0.25, seed)
    train_data, test_data = Labelled(images, noisy), Labelled(images, labels)
    starter = Starter(ResNet(1, classes, widths=(4, 8), blocks=1), lr=0.05, total_iters=100)
    criterion = DataParameters(num_instances=count, instance_lr=4.0, clamp=(0.05, 20.0))
    runs = [starter.tempered("instance", criterion), starter.plain("oracle", examples=~corrupt)]
    oracle = runs[1]
    seen: list[torch.Tensor] = []
    plain_loss = oracle.loss

    def noting_loss(logits: torch.Tensor, targets: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        assert torch.equal(targets, noisy[indices])
        seen.append(indices)
        return plain_loss(logits, targets, indices)

    oracle.loss = noting_loss
    observer = Observer(runs, train_data, corrupt, test_data)
    train(runs, train_data, train_data, epochs=10, batch_size=16, seed=seed, on_step=lambda: None, on_epoch=observer)
    history = observer.sigmas["instance"]
    assert [*observer.sigmas] == ["instance"]
    assert len(history.found) == 10
    assert history.found[-1] > 0.9
    assert history.corrupt[-1].quartiles[0] > 2 * history.clean[-1].quartiles[2]
    assert observer.test_accuracies["oracle"][-1] > 0.95
    assert sorted(torch.cat(seen).tolist()) == sorted((~corrupt).nonzero()[:, 0].tolist() * 10)


def test_best_epoch_is_chosen_by_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Labelled(torch.randn(12, 1, 4, 4), torch.arange(12) % 3)
    run = Starter(ResNet(1, 3, widths=(2,), blocks=1), lr=0.1, total_iters=4).plain("run")
    observer = Observer([run], data, torch.arange(12) < 4, data)
    for epoch, validation in enumerate((0.2, 0.5, 0.5, 0.3)):
        run.model.head.bias.data.fill_(float(epoch))  # type: ignore[union-attr, operator]
        run.history.validation_accuracies.append(validation)
        observer()
    biases = []

    def note_bias(_: Labelled) -> float:
        biases.append(run.model.head.bias[0].item())  # type: ignore[union-attr, index]
        return 0.75

    monkeypatch.setattr(run, "accuracy", note_bias)
    assert observer.accuracy_at_best(run, data) == 0.75
    assert biases == [1.0]
    assert run.model.head.bias[0].item() == 3.0, "as it was"  # type: ignore[union-attr, index]
