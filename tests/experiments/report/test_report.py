"""Reports: what is computed from records, and what is written of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lerac_fast.experiments.cli import main
from lerac_fast.experiments.environment import environment
from lerac_fast.experiments.report.records import Record, cells_of, read_lines
from lerac_fast.experiments.report.statistics import compare, mcnemar_p
from lerac_fast.experiments.report.tables import BOLD, Table, comparison_table, score_table
from lerac_fast.experiments.results import pack_bits, unpack_bits
from lerac_fast.experiments.trials.trial import Trial
from tests.experiments.trials.helpers import digits_trial, planned, run


def record(trial: Trial, correct: list[int], seconds: float = 1.0) -> Record:
    """Of a trial that classified these examples correctly."""
    hits = torch.tensor(correct, dtype=torch.bool)
    epoch = {"train_loss": 1.0, "validation_loss": 1.0, "validation_metric": 0.5, "seconds": seconds}
    content: dict[str, Any] = {
        "trial": trial.to_json(),
        "status": "done",
        "result": {
            "metric": "accuracy",
            "higher_is_better": True,
            "test": hits.double().mean().item(),
            "correct": pack_bits(hits),
        },
        "sizes": {"train": 90, "validation": 10, "test": len(correct)},
        "epochs": [epoch, epoch],
        "data": {"source": "the test", "note": None},
        "device": "cpu",
        "steps_per_epoch": 5,
        "ranks": 1,
        "environment": environment(),
    }
    return Record(trial, content)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_bits_survive(count: int) -> None:
    values = torch.rand(count) < 0.5
    assert unpack_bits(pack_bits(values), count).tolist() == values.tolist()


@pytest.mark.parametrize(
    ("ours_only", "theirs_only", "expected"),
    [
        (0, 0, 1.0),
        (5, 0, 2 * 0.5**5),  # exact
        (3, 3, 1.0),
        (40, 20, 0.014171),  # chi-square with continuity correction: (|40 - 20| - 1)^2 / 60 = 6.0167
    ],
)
def test_mcnemar(ours_only: int, theirs_only: int, expected: float) -> None:
    ours = np.array([True] * ours_only + [False] * theirs_only + [True] * 9 + [False] * 4)
    theirs = np.array([False] * ours_only + [True] * theirs_only + [True] * 9 + [False] * 4)
    assert mcnemar_p(ours, theirs) == pytest.approx(expected, rel=1e-3)


def test_regimes_are_compared_seed_by_seed() -> None:
    conventional = [
        record(digits_trial(seed=0), [1, 0, 0, 0], 1.0),
        record(digits_trial(seed=1), [1, 1, 0, 0], 2.0),
        record(digits_trial(seed=2), [1, 1, 1, 1], 1.0),  # without a counterpart
    ]
    lerac = [record(digits_trial("lerac", 1), [1, 1, 1, 0], 2.2), record(digits_trial("lerac", 0), [1, 1, 0, 0], 1.2)]
    baseline, cell = cells_of([*conventional, *lerac])
    assert [r.trial.seed for r in cell.records] == [0, 1]
    compared = compare(cell, baseline)
    assert compared is not None
    assert compared.difference == pytest.approx(0.25)
    assert compared.difference_deviation == pytest.approx(0.0)
    assert compared.overhead == pytest.approx(0.15)
    assert compared.p_values == (1.0, 1.0)
    assert (compared.better, compared.worse) == (0, 0)
    other = cells_of([record(digits_trial("lerac", 9), [1])])[0]
    assert compare(other, baseline) is None


def test_directions_are_counted() -> None:
    """Where seeds contradict each other, a small p-value is no gain."""
    worse, better = [0] * 20 + [1] * 20, [1] * 40
    conventional = [record(digits_trial(seed=seed), worse if seed else better) for seed in range(3)]
    lerac = [record(digits_trial("lerac", seed), better if seed else worse) for seed in range(3)]
    baseline, cell = cells_of([*conventional, *lerac])
    compared = compare(cell, baseline)
    assert compared is not None
    assert (compared.better, compared.worse) == (2, 1)
    assert compared.p_value == pytest.approx(4 * 0.5**20)


def test_other_test_examples_and_machines_are_not_compared() -> None:
    ours, theirs = record(digits_trial("lerac"), [1, 0, 1]), record(digits_trial(), [1, 1])
    ours.content["environment"]["machine"]["threads"] += 1
    baseline, cell = cells_of([theirs, ours])
    compared = compare(cell, baseline)
    assert compared is not None
    assert compared.p_value is None
    assert compared.overhead is None


def test_conventional_training_counts_once_a_seed() -> None:
    """Whatever k it was planned with, which it does not know."""
    records = [record(digits_trial(seed=seed, lerac_epochs=k), [1]) for seed in range(2) for k in (1, 2)]
    records += [record(digits_trial("lerac", seed, lerac_epochs=k), [1]) for seed in range(2) for k in (1, 2)]
    cells = cells_of(records)
    assert [(cell.regime_title, len(cell.records)) for cell in cells] == [
        ("conventional", 2),
        ("LeRaC (lerac_epochs=1)", 2),
        ("LeRaC (lerac_epochs=2)", 2),
    ]


def test_the_best_is_bold() -> None:
    records = [
        record(digits_trial(seed=0), [1, 1, 0, 0]),
        record(digits_trial(seed=1), [1, 0, 0, 0]),
        record(digits_trial("lerac", 0), [1, 1, 1, 0]),
        record(digits_trial("cbs", 0), [1, 0, 0, 0]),
    ]
    table = score_table("Test accuracy", cells_of(records))
    assert table.columns == ("model", "regime", "Digits")
    assert table.rows == (
        ("ResNet, small", "conventional", "37.50 ± 17.68"),
        ("ResNet, small", "LeRaC", f"{BOLD}75.00"),
        ("ResNet, small", "CBS", "25.00"),
    )


def test_settings_and_conditions_are_told_apart() -> None:
    records = [
        record(digits_trial(), [1]),
        record(digits_trial(epochs=5), [1]),
        record(digits_trial(label_noise=0.4), [1]),
        record(digits_trial(label_noise=0.4, noise_free=True), [1]),
    ]
    cells = cells_of(records)
    assert [(c.model_title, c.data_title, c.regime_title) for c in cells] == [
        ("ResNet, small (epochs=3)", "Digits", "conventional"),
        ("ResNet, small (epochs=5)", "Digits", "conventional"),
        ("ResNet, small", "Digits, 40% wrong labels", "conventional"),
        ("ResNet, small", "Digits, 40% wrong labels", "conventional, right labels only"),
    ]
    rows = comparison_table("", cells).rows
    assert [bool(row[4]) for row in rows] == [False, False, False, True], "the oracle against conventional"
    assert not any(row[2].startswith(BOLD) for row in score_table("", cells).rows), "the oracle is no rival"


def test_markdown_and_latex() -> None:
    table = Table("50% & more", ("a_b", "c"), (("x", f"{BOLD}1 ± 2%"), ("<y", "3")), left=1)
    assert table.markdown().splitlines() == [
        "| a_b | c |",
        "| --- | ---: |",
        "| x | **1 ± 2%** |",
        "| <y | 3 |",
    ]
    latex = table.latex()
    assert r"\caption{50\% \& more}" in latex
    assert r"a\_b & c \\" in latex
    assert r"x & \textbf{1 $\pm$ 2\%} \\" in latex
    assert r"$<$y & 3 \\" in latex


def test_a_report_of_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = [digits_trial(regime, seed) for seed in range(2) for regime in ("conventional", "lerac", "cbs")]
    diverging = digits_trial(lr=1e30)
    folder = planned(tmp_path / "mine", *trials, diverging, digits_trial(seed=8))
    assert main(["report", str(folder)]) == 1
    assert "none of the 8 trials has ended yet" in capsys.readouterr().err
    assert run(folder, "--trials", *(trial.id for trial in (*trials, diverging))) == 1
    assert main(["report", str(folder), "--title", "My title"]) == 0
    report = folder / "report"
    assert {path.name for path in report.iterdir()} == {
        *("report.md", "report.tex", "records.jsonl", "validation_by_time.png", "learning_curves.png"),
        *("training_losses.png", "rates.png", "sigma.png"),
    }
    text = (report / "report.md").read_text()
    assert text.startswith("# My title\n")
    assert "6 of 8 trials are done" in text
    assert "failed: the training loss of epoch 1 is" in text
    assert text.count("**") == 2, "one best"
    assert len((report / "records.jsonl").read_text().splitlines()) == 7
    assert [r.trial for r in read_lines(report / "records.jsonl") if r.done] == trials
    # The same again from the lines alone, without the folder.
    assert main(["report", str(report / "records.jsonl"), "--output", str(tmp_path / "again")]) == 0
    again = (tmp_path / "again" / "report.md").read_text()
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert [line for line in again.splitlines() if line.startswith("|")] == tables


def test_damaged_lines_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(record(digits_trial(), [1]).content) + "\n{}\n")
    assert main(["report", str(path)]) == 1
    assert f"{path}, line 2" in capsys.readouterr().err
