"""Trials of models of one's own: tried when they are planned, and not run with another source."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from experiments.tests.models.samples import sample_parts
from experiments.tests.report.samples import record
from experiments.tests.trials.helpers import digits_trial, record_of, run
from lerac_experiments.cli import main
from lerac_experiments.data import registry
from lerac_experiments.data.source import DataSet, Parts, Request
from lerac_experiments.errors import ExperimentError, Unavailable
from lerac_experiments.models.registry import find_model
from lerac_experiments.report.reading import write_lines
from lerac_experiments.report.records import cells_of
from lerac_experiments.training.regimes.temperatures import Temperatures
from lerac_experiments.trials.changes import Changed, require_unchanged
from lerac_experiments.trials.manifest import FILE, Manifest
from lerac_experiments.trials.trial import Trial


def test_the_file_of_similarities_counts(tmp_path: Path) -> None:
    path = tmp_path / "similarity.csv"
    path.write_text("\n".join(",".join("1" for _ in range(10)) for _ in range(10)))
    arguments = ("--models", "resnet-small", "--data", "digits", "--regimes", "label-similarity", "--seeds", "1")
    plan = ["plan", str(tmp_path), *arguments, "--epochs", "1", "--lerac-epochs", "0", "--class-similarity", str(path)]
    assert main(plan) == 0
    assert main(plan) == 0, "the same"
    (trial,) = Manifest.read(tmp_path)
    require_unchanged(trial)
    path.write_text(path.read_text().replace("1", "2"))
    with pytest.raises(Changed, match=f"the file {path} has changed since the trial was planned"):
        require_unchanged(trial)
    assert main(plan) == 1


SOURCE = """
from torch import nn

def net(classes, width=4):
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.Flatten(), nn.Linear(36 * width, classes))

def flat(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

def wide(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes + 1))

def drawn(classes):
    import numpy
    model = flat(classes)
    model[1].weight.data.fill_(numpy.random.rand())
    return model

class Wrong(nn.Linear):
    def __init__(self):
        super().__init__(3, 10)

    def forward(self, x):
        return super().forward(x)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where model.py is, and where commands are called."""
    (tmp_path / "model.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(*options: str, model: str = "model.py:net") -> int:
    usual = ("--data", "digits", "--seeds", "1", "--epochs", "2", "--train-examples", "60", "--test-examples", "20")
    return main(["plan", "mine", "--models", model, *usual, *options])


def test_a_model_of_ones_own_is_planned_run_and_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--regimes", "conventional", "lerac", "cbs") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "model.py:net on digits: 1,490 parameters in 2 layers, from 0 to 2; CBS smooths after 1" in printed
    trials = Manifest.read(folder / "mine").trials
    assert {trial.model_source for trial in trials} == {find_model("model.py:net").fingerprint()}  # type: ignore[misc]
    assert {(t.settings.optimizer, t.settings.lr, t.settings.epochs, t.settings.lerac_epochs) for t in trials} == {
        ("AdamW", 1e-3, 2, 0.2)
    }
    assert run(Path("mine")) == 0
    assert record_of(Path("mine"), trials[0])["model"]["layers"] == 2
    (folder / "model.py").unlink()  # reports are written where models are not
    assert main(["report", "mine"]) == 0
    assert "model.py:net" in (folder / "mine" / "report" / "report.md").read_text()


def test_what_was_done_before_a_model_was_edited_is_said_to_be_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan() == 0
    assert run(Path("mine")) == 0
    capsys.readouterr()
    assert run(Path("mine")) == 0
    assert "changed" not in capsys.readouterr().out
    (folder / "model.py").write_text(SOURCE.replace("nn.Conv2d(1, width, 3)", "nn.Conv2d(1, width, 3, bias=False)"))
    assert run(Path("mine")) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "done before, but the source of model.py:net has changed since the trial was planned" in printed
    assert printed.count("changed") == 1, "of each model once"
    (folder / "model.py").unlink()
    assert run(Path("mine")) == 0, "what is done does not need it any more"


def test_an_edited_model_is_another_trial(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan() == 0
    planned = Manifest.read(folder / "mine").trials
    (folder / "model.py").write_text(SOURCE.replace("nn.Conv2d(1, width, 3)", "nn.Conv2d(1, width, 3, bias=False)"))
    capsys.readouterr()
    assert run(Path("mine")) == 1
    assert "the source of model.py:net has changed since the trial was planned" in " ".join(
        capsys.readouterr().out.split()
    )
    assert plan() == 1
    assert "plans other trials, as the source of model.py:net has changed since" in capsys.readouterr().err
    assert main(["plan", "new", "--models", "model.py:net", "--data", "digits", "--seeds", "1"]) == 0
    assert {trial.id for trial in Manifest.read(folder / "new")}.isdisjoint(trial.id for trial in planned)
    (folder / "model.py").write_text(SOURCE)
    assert run(Path("mine")) == 0, "changed back, it is run"


def test_a_source_that_is_missing_is_asked_for_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--regimes", "conventional") == 0
    (folder / "model.py").rename(folder / "elsewhere.py")
    capsys.readouterr()
    assert run(Path("mine")) == 1
    assert "model.py:net: there is no file" in " ".join(capsys.readouterr().out.split())
    (folder / "elsewhere.py").rename(folder / "model.py")
    assert run(Path("mine")) == 0


def test_versions_are_kept_apart_in_a_report() -> None:
    trial = replace(digits_trial(), model="model.py:net", model_source="a" * 16)
    edited = replace(trial, model_source="b" * 16)
    cells = cells_of([record(trial, [1, 0]), record(edited, [1, 1])])
    assert [cell.model_title for cell in cells] == ["model.py:net (source aaaaaaaa)", "model.py:net (source bbbbbbbb)"]
    of_data = [replace(digits_trial(), data_content=content) for content in ("c" * 16, "d" * 16)]
    assert [cell.model_title for cell in cells_of([record(each, [1]) for each in of_data])] == [
        "ResNet, small (data cccccccc)",
        "ResNet, small (data dddddddd)",
    ]


def test_temperatures_are_for_detectors_that_have_a_loss_of_their_own() -> None:
    trial = replace(digits_trial("dp-class"), model="torchvision:fasterrcnn_resnet50_fpn")
    setup: Any = SimpleNamespace(trial=trial, model=nn.Linear(1, 1), parts=sample_parts("detection"), corrupt=None)
    with pytest.raises(ExperimentError, match="dp-class takes the place of a detector's compute_loss"):
        Temperatures(setup, classes=True, instances=False)


@pytest.mark.usefixtures("no_figures")
def test_a_report_says_what_short_titles_stand_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "transformers:bert,num_hidden_layers=2,hidden_size=16"
    write_lines(tmp_path / "records.jsonl", [record(replace(digits_trial(), model=long), [1, 0])])
    assert main(["report", str(tmp_path / "records.jsonl")]) == 0
    said = f"{find_model(long).title}: `{long}`"
    assert f"- {said}" in (tmp_path / "report" / "report.md").read_text()
    assert said in capsys.readouterr().out


def test_what_a_trial_has_not_is_not_in_its_content() -> None:
    assert not {"model_source", "data_content", "grid"} & set(digits_trial().to_json())
    own = replace(digits_trial(), model_source="a" * 16, data_content="b" * 16)
    assert len({own.id, digits_trial().id, replace(own, data_content=None).id}) == 3
    assert Trial.from_json(own.to_json()) == own


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("model.py:wide", (), "the logits of the classes for each example, [4, 10], and gives (4, 11)"),
        ("model.py:Wrong", (), "line 24: return super().forward(x))"),
        (
            "model.py:drawn",
            (),
            "the initial weights 1.weight differ between two calls after the same torch",
        ),
        ("model.py:flat", ("--regimes", "cbs"), "CBS has nothing to smooth: there are neither convolutions"),
        ("timm:resnet19", (), "timm has no model 'resnet19'"),
        ("nope.py:net", (), "nope.py:net: there is no file"),
    ],
)
def test_faults_show_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], model: str, options: tuple[str, ...], message: str
) -> None:
    assert plan(*options, model=model) == 1
    assert message in capsys.readouterr().err
    assert not (folder / "mine" / FILE).exists()


@pytest.mark.usefixtures("folder")
def test_the_trial_step_can_be_left_out() -> None:
    assert plan("--no-rehearse", model="model.py:wide") == 0


@pytest.mark.usefixtures("folder")
def test_without_the_data_a_model_is_planned_untried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(_: Request) -> Parts:
        raise Unavailable("digits are elsewhere")

    monkeypatch.setitem(registry.DATA, "digits", DataSet("digits", "Digits", "image", missing))
    assert plan("--train-examples", "61") == 0  # what was loaded before is remembered
    assert "model.py:net was not tried: digits are elsewhere" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("folder")
def test_what_depends_on_other_settings_follows_them() -> None:
    spec, digits = find_model("model.py:net"), registry.DATA["digits"]
    usual, shorter = spec.settings_for(digits, {}), spec.settings_for(digits, {"epochs": 10, "lr": 1e-2})
    assert (usual.lerac_epochs, usual.cbs_every, usual.min_lr) == (3, 0.706, 1e-8)
    assert (shorter.lerac_epochs, shorter.cbs_every, shorter.min_lr) == (1, 0.235, 1e-7)
    assert spec.settings_for(digits, {"epochs": 10, "lerac_epochs": 4}).lerac_epochs == 4
    text = replace(digits, kind="text")
    tuned = [find_model(f"transformers:bert{option}").settings_for(text, {}) for option in ("", ",pretrained")]
    assert [(each.lr, each.min_lr) for each in tuned] == [(3e-4, 3e-8), (5e-5, 5e-8)]
    assert spec.settings_for(replace(digits, kind="detection"), {}).optimizer == "SGD"
