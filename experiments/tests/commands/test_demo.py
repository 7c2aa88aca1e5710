"""`lerac-fast demo` and `lerac-fast demo noise`: from the command line to the report."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.image import imread

from experiments.tests.trials.helpers import record_of
from lerac_experiments.cli import main
from lerac_experiments.commands import demo
from lerac_experiments.data import fashion_mnist
from lerac_experiments.errors import Unavailable
from lerac_experiments.trials.manifest import Manifest
from lerac_experiments.trials.trial import Trial


def shortened(trials: Callable[..., list[Trial]]) -> Callable[..., list[Trial]]:
    """The preset, with trainings of 200 images."""

    def short(data: str, seeds: int) -> list[Trial]:
        return [
            replace(
                trial,
                settings=replace(trial.settings, epochs=2, cbs_every=0.05),
                protocol=replace(trial.protocol, train_examples=200, test_examples=100),
            )
            for trial in trials(data, seeds)
        ]

    return staticmethod(short)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (demo.Demo, demo.Noise):
        monkeypatch.setattr(command, "trials", shortened(command.trials))


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    assert main(["demo", "--data", "digits", "--seeds", "2", "--output", str(folder)]) == 0
    manifest = Manifest.read(folder)
    assert [(trial.regime, trial.seed) for trial in manifest] == [
        (regime, seed) for seed in range(2) for regime in ("conventional", "cbs", "lerac", "cbs+lerac")
    ]
    printed = " ".join(capsys.readouterr().out.split())
    for said in ("Test accuracy", "Time of a training step", "LeRaC", "CBS + LeRaC", "overhead", "8 done"):
        assert said in printed
    report = folder / "report"
    assert "## Time of a training step" in (report / "report.md").read_text()
    for name in ("learning_curves.png", "rates.png", "sigma.png"):
        picture = imread(report / name)
        assert min(picture.shape[:2]) > 300
        assert picture[..., :3].std() > 0.05, "it is not blank"

    record = record_of(folder, manifest.trials[2])
    first, middle, last = record["rates"]["first_middle_last"][0]
    assert first == 0.1
    assert first > middle > last == pytest.approx(1e-8)
    assert len(set(record["rates"]["first_middle_last"][-1])) == 1, "LeRaC has ended"

    assert main(["demo", "--data", "digits", "--seeds", "2", "--output", str(folder)]) == 0
    assert "8 done before" in " ".join(capsys.readouterr().out.split())


def test_demo_noise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "noise", "--data", "digits", "--output", str(tmp_path)]) == 0
    report = (tmp_path / "report" / "report.md").read_text()
    assert "Digits, 40% wrong labels" in report
    assert "conventional, right labels only" in report
    assert "## Wrong labels among the highest temperatures" in report
    assert "data parameters (joint)" in " ".join(capsys.readouterr().out.split())


def test_digits_stand_in_where_fashion_mnist_cannot_be_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object) -> None:
        raise Unavailable("no route to host")

    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "missing")
    monkeypatch.setattr(fashion_mnist, "download", no_network)
    assert main(["demo", "--seeds", "1", "--output", str(tmp_path / "demo")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Digits instead of Fashion-MNIST" in printed
    assert "no route to host" in printed
    assert {trial.data for trial in Manifest.read(tmp_path / "demo")} == {"digits"}
    assert main(["demo", "--data", "fashion-mnist", "--output", str(tmp_path / "asked")]) == 1
    assert "no route to host" in " ".join(capsys.readouterr().out.split()), "wherever a line ends"


def test_an_experiment_of_another_kind_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(tmp_path), "--models", "lenet", "--data", "digits"]) == 0
    assert main(["demo", "--data", "digits", "--output", str(tmp_path)]) == 1
    assert "plans other trials" in capsys.readouterr().err
