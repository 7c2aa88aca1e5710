"""compare(): from a program's own functions and Datasets to a data frame."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import nn
from torch.utils.data import TensorDataset

import lerac_experiments
from lerac_experiments import terminal
from lerac_experiments.errors import ExperimentError
from lerac_experiments.training.runner import Runner
from lerac_experiments.trials.manifest import Manifest

pytestmark = pytest.mark.usefixtures("no_figures")


def columns(count: int, seed: int) -> TensorDataset:
    inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(inputs, (inputs[:, 0] > 0).long())


DATA = columns(60, 0), columns(40, 1)


def linear(input_shape: tuple[int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(input_shape[0], 8), nn.ReLU(), nn.Linear(8, classes))


def compare(folder: Path, model: Any = linear, data: Any = DATA, **options: Any) -> pd.DataFrame:
    usual = {"kind": "table", "seeds": 2, "epochs": 3, "lr": 0.1, "batch_size": 16, "device": "cpu"}
    return lerac_experiments.compare(model, data, folder=folder, **usual | options)


def test_functions_and_datasets_become_a_frame(tmp_path: Path) -> None:
    frame = compare(tmp_path)
    assert list(frame["regime"]) == ["conventional", "LeRaC"]
    assert set(frame["model"]) == {f"{linear.__module__}:linear"}
    assert list(frame["runs"]) == [2, 2]
    assert frame["test"].between(0, 1).all()
    assert frame["difference"].isna().tolist() == [True, False]
    assert frame["difference"][1] == pytest.approx(frame["test"][1] - frame["test"][0])
    assert Path(frame.attrs["report"]).read_text().startswith(f"# {tmp_path.name}")


def test_what_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = compare(tmp_path)
    trained: list[str] = []
    run = Runner.run

    def noted(self: Runner, folder: Any) -> Any:
        trained.append(self.trial.name)
        return run(self, folder)

    monkeypatch.setattr(Runner, "run", noted)
    pd.testing.assert_frame_equal(compare(tmp_path), frame)
    assert not trained
    more = compare(tmp_path, regimes=["conventional", "warm-up+cosine"], seeds=3)
    assert len(trained) == 1 + 3
    assert list(more["runs"]) == [3, 3]


def test_an_edited_function_and_other_data_are_trained_anew(tmp_path: Path) -> None:
    def make(width: int) -> Any:
        def model(classes: int) -> nn.Module:
            return nn.Sequential(nn.Linear(4, width), nn.Linear(width, classes))

        return model

    few = {"seeds": 1, "regimes": ["conventional"]}
    compare(tmp_path, make(2), **few)
    frame = compare(tmp_path, make(3), **few)
    assert len(frame) == 1, "of what was asked for alone"
    compare(tmp_path, make(3), (columns(60, 2), DATA[1]), **few)
    assert len(Manifest.read(tmp_path)) == 3
    report = Path(frame.attrs["report"]).read_text()
    assert len(set(re.findall(r"python:model_[0-9a-f]{8}", report))) == 2, "versions are told apart"


def test_a_grid_is_chosen_from(tmp_path: Path) -> None:
    frame = compare(tmp_path, seeds=1, grid={"lerac_epochs": [0.5, 1], "lr": [0.1, 0.001]})
    assert list(frame["chosen_among"]) == [2, 4]
    assert "lr=" in frame["regime"][0]


def test_functions_that_give_data(tmp_path: Path) -> None:
    def words() -> list[tuple[str, str]]:
        return [(f"number {i} is {kind}", kind) for i in range(20) for kind in ("odd", "even")]

    def reader(vocabulary: int, classes: int) -> nn.Module:
        class Bag(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embedding, self.head = nn.Embedding(vocabulary, 4), nn.Linear(4, classes)

            def forward(self, inputs: dict[str, torch.Tensor]) -> Any:
                return self.head(self.embedding(inputs["input_ids"]).mean(1))

        return Bag()

    frame = compare(tmp_path, reader, words, kind="text", seeds=1, regimes=["conventional"])
    assert frame["metric"][0] == "accuracy"


def test_functions_of_one_name_or_none_stand_for_themselves(tmp_path: Path) -> None:
    models = [lambda classes: nn.Linear(4, classes), lambda classes: nn.Sequential(nn.Linear(4, classes))]
    frame = compare(tmp_path, models, lambda: DATA, seeds=1, regimes=["conventional"])
    assert frame["model"].nunique() == 2
    assert frame["runs"].tolist() == [1, 1]


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="knows no setting 'learning_rate': there are optimizer, lr,"):
        compare(tmp_path, learning_rate=1e-3)
    with pytest.raises(ExperimentError, match=r"another kind is given by `,kind=\.\.\.`"):
        compare(tmp_path, kind=None)
    with pytest.raises(ExperimentError, match="is there twice"):
        compare(tmp_path, [linear, linear])
    assert not any(tmp_path.iterdir())
    with pytest.raises(ExperimentError, match="loss"):
        compare(tmp_path, lr=1e30, min_lr=1e-8, regimes=["conventional"])


def test_trials_that_fail_beside_others_are_warned_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="2 of 4 trials are not done: .*loss"):
        frame = compare(tmp_path, regimes=["conventional"], grid={"lr": [0.1, 1e30]}, min_lr=1e-9)
    assert list(frame["runs"]) == [2]


def test_progress_in_notebooks_takes_ipywidgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, rich would warn at every step."""
    console = Console(force_jupyter=True)
    for found in (None, find_spec("json")):
        monkeypatch.setattr(terminal, "find_spec", lambda _, found=found: found)
        assert terminal.progress_bar(console).disable is (found is None)
