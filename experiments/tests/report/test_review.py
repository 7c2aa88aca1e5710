"""Reports of what the review asks for, and of wrong labels: tables and figures."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.tests.models.samples import sample_parts
from experiments.tests.report.samples import record
from experiments.tests.trials.helpers import digits_trial, planned, record_of, run
from lerac_experiments.figure_style import STYLES
from lerac_experiments.models import MODELS
from lerac_experiments.models.initializers import INITIALIZERS, initialise
from lerac_experiments.plans.check import check
from lerac_experiments.presets import PRESETS
from lerac_experiments.report import figures
from lerac_experiments.report.figures import write_figures
from lerac_experiments.report.records import Record, among_curricula, cells_of
from lerac_experiments.report.statistics import mcnemar_p
from lerac_experiments.report.tables import curricula_table
from lerac_experiments.settings import Initializer, Protocol
from lerac_experiments.training.regimes import REGIMES


def test_the_review_preset() -> None:
    trials = PRESETS["review"]()
    for trial in trials:
        check(trial)
    regimes = {trial.regime for trial in trials}
    curves = {"lerac", "lerac-linear", "lerac-logarithmic", "lerac-cosine"}
    comparators = {"efficient-train", "low-frequency", "rand-augment", "label-similarity"}
    assert regimes == {"conventional", "warm-up+cosine", "cbs"} | comparators | curves
    crossed = {(t.settings.optimizer, t.protocol.initializer) for t in trials if t.model == "resnet18"}
    assert crossed == {
        *((optimizer, "own") for optimizer in ("SGD", "Adam", "AdamW", "Adamax")),
        *(("SGD", initializer) for initializer in INITIALIZERS),
    }
    assert len({trial.id for trial in trials}) == len(trials)


def test_figure_4_is_a_part_of_table_2() -> None:
    of_table = {trial.id for trial in PRESETS["dcl-table2"]()}
    assert {trial.id for trial in PRESETS["dcl-figure4"]()} < of_table


def test_curves_are_compared_with_each_other() -> None:
    """By McNemar's test, as the authors do: exponential against linear, say."""
    found = {"conventional": [1, 0, 0, 0, 0, 0], "lerac-linear": [1, 0, 0, 0, 0, 1], "lerac": [1, 1, 1, 1, 1, 1]}
    cells = cells_of([record(digits_trial(regime), correct) for regime, correct in found.items()])
    (row,) = curricula_table("", cells, "lerac").rows
    assert row[2] == "LeRaC (linear update)"
    assert row[3] == "-66.67"
    assert mcnemar_p([cells[1].records[0].correct.astype(int) - 1]) == pytest.approx(0.125)
    assert row[6].startswith("0.125")
    other_k = cells_of(
        [record(digits_trial("lerac-linear", lerac_epochs=2.0), [1]), record(digits_trial("lerac"), [1])]
    )
    assert curricula_table("", other_k, "lerac").rows == (), "of other settings"


def test_who_knew_the_wrong_labels_is_compared_with_none_who_did_not() -> None:
    noisy = [digits_trial(name, label_noise=0.4) for name in ("conventional", "lerac", "lerac-linear")]
    oracle = digits_trial("lerac", label_noise=0.4, noise_free=True)
    found = among_curricula(cells_of([record(trial, [1, 0]) for trial in (*noisy, oracle)]), "lerac")
    assert [(cell.trial.regime, against.is_oracle) for cell, against in found] == [("lerac-linear", False)]


def test_data_of_one_title_is_told_apart() -> None:
    trials = [replace(digits_trial(), data=f"images:{folder}/photos") for folder in ("a", "b")]
    both = [cell.data_title for cell in cells_of([record(trial, [1, 0]) for trial in trials])]
    assert len(set(both)) == 2
    assert all(re.fullmatch(r"images:photos, #[0-9a-f]{4}", title) for title in both)
    assert cells_of([record(trials[0], [1, 0])])[0].data_title == "images:photos"


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initial_weights(name: Initializer) -> None:
    torch.manual_seed(0)
    model = MODELS["lenet"].make(sample_parts("image"), None)
    initialise(model, name)
    weight = model.dense2.weight.detach()  # 84 x 120
    if name == "orthogonal":
        torch.testing.assert_close(weight @ weight.T, torch.eye(84), atol=1e-5, rtol=0)
    else:
        wanted = {"glorot": (2 / (84 + 120)) ** 0.5, "he": (2 / 120) ** 0.5, "normal": 0.02}[name]
        assert weight.std().item() == pytest.approx(wanted, rel=0.03)
    assert not model.dense2.bias.any()


def test_lerac_crossed_with_initial_weights_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_FIGURES", {})
    records = [
        record(digits_trial(regime, seed, initializer=initializer), [1, seed])
        for initializer in ("own", "he")
        for regime in ("conventional", "lerac")
        for seed in range(2)
    ]
    cells = cells_of(records)
    assert {cell.variant for cell in cells} == {"initializer=own", "initializer=he"}
    assert [*write_figures(cells, tmp_path)] == ["differences.png"]
    assert (tmp_path / "differences.png").is_file()
    (tmp_path / "differences.png").unlink()
    assert write_figures(cells_of(records[:4]), tmp_path) == {}, "crossed with nothing"


def test_usual_weights_are_no_part_of_what_decides() -> None:
    assert digits_trial().id == digits_trial(initializer="own").id
    assert "initializer" not in json.dumps(digits_trial()._content())
    assert Protocol().initializer == "own"


def test_right_and_wrong_labels_are_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how well labels are known that are trained with; noted where some are wrong, and only there."""
    noisy = digits_trial("dp-joint", label_noise=0.4, instance_lr=8.0)
    plain, oracle = digits_trial("dp-joint", epochs=2), digits_trial(label_noise=0.4, noise_free=True, epochs=2)
    folder = planned(tmp_path / "noise", noisy, plain, oracle)
    assert run(folder) == 0
    last = record_of(folder, noisy)["epochs"][-1]
    assert last["wrong_found"] == record_of(folder, noisy)["result"]["wrong_found"]
    assert last["sigma_wrong"] > last["sigma_right"] > 0
    assert last["sigma_wrong_deviation"] > 0
    assert 0 < last["train_accuracy"] < 1
    assert "train_accuracy" in record_of(folder, oracle)["epochs"][0]
    assert "train_accuracy" not in record_of(folder, plain)["epochs"][0]
    assert "sigma_wrong" not in record_of(folder, plain)["epochs"][0]
    cells = cells_of([Record(trial, record_of(folder, trial)) for trial in (noisy, oracle)])
    names = ("temperatures", "wrong_found", "training_accuracy")
    monkeypatch.setattr(figures, "_FIGURES", {name: figures._FIGURES[name] for name in names})
    assert [*write_figures(cells, tmp_path)] == [f"{name}.png" for name in names]


def test_each_regime_has_a_style_of_its_own() -> None:
    assert len(STYLES) > len(REGIMES), "and one for the oracle"
    for kind in zip(*STYLES, strict=True):
        assert len(set(kind)) == len(STYLES)
