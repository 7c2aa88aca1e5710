"""Reports: what is written of records."""

from pathlib import Path

import pytest
import torch

from experiments.tests.report.samples import record
from experiments.tests.trials.helpers import digits_trial, planned, run
from lerac_experiments.cli import main
from lerac_experiments.report.reading import Reading, write_lines
from lerac_experiments.report.records import Record, cells_of
from lerac_experiments.report.tables import (
    BOLD,
    DIFFERENCE,
    MCNEMAR_P,
    P_VALUE,
    Table,
    comparison_table,
    score_table,
)
from lerac_experiments.training.history import pack_bits, unpack_bits
from lerac_experiments.trials.trial import Trial


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_bits_survive(count: int) -> None:
    values = torch.rand(count) < 0.5
    assert unpack_bits(pack_bits(values), count).tolist() == values.tolist()


def regression(trial: Trial, error: float) -> Record:
    made = record(trial, [1])
    result = made.content["result"]
    del result["correct"]
    result |= {"metric": "mean absolute error", "higher_is_better": False, "test": error}
    return made


@pytest.mark.usefixtures("no_figures")
def test_the_direction_of_an_error_is_said(tmp_path: Path) -> None:
    errors = {"conventional": (6.0, 6.2), "lerac": (5.0, 5.4)}
    records = [
        regression(digits_trial(regime, seed), error)
        for regime, found in errors.items()
        for seed, error in enumerate(found)
    ]
    cells = cells_of(records)
    row = dict(zip(comparison_table("", cells).columns, comparison_table("", cells).rows[1], strict=True))
    assert row["test"] == "5.20 ± 0.28 (lower is better)"
    assert row[DIFFERENCE] == "-0.90 ± 0.14 (lower is better)"
    assert row[MCNEMAR_P] == "not applicable"
    assert row[P_VALUE] == "0.070"
    assert [row[2].startswith(BOLD) for row in score_table("", cells).rows] == [False, True]
    write_lines(tmp_path / "records.jsonl", records)
    assert main(["report", str(tmp_path / "records.jsonl")]) == 0
    assert "## Test mean absolute error (lower is better)" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("lerac", "verdict"),
    [
        ((5.0, 5.4), "p 0.070 (may be chance)"),
        ((5.0, 5.21), "p 0.003 (hardly chance)"),
        ((5.0,), "p unknown (several seeds would tell)"),
    ],
)
def test_the_answer_is_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lerac: tuple[float, ...], verdict: str
) -> None:
    errors = {"conventional": (6.0, 6.2), "lerac": lerac}
    write_lines(
        tmp_path / "records.jsonl",
        [
            regression(digits_trial(regime, seed), error)
            for regime, found in errors.items()
            for seed, error in enumerate(found)
        ],
    )
    assert main(["report", str(tmp_path / "records.jsonl")]) == 0
    assert verdict in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("no_figures")
def test_a_report_begins_with_its_tables_and_explains_what_is_in_them(tmp_path: Path) -> None:
    write_lines(tmp_path / "records.jsonl", [record(digits_trial(), [1, 0])])
    assert main(["report", str(tmp_path / "records.jsonl")]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.index("## Test accuracy") < text.index("## What the numbers mean") < text.index("## Data")
    assert all(f"`--{name}`" in text for name in ("lr", "min-lr", "lerac-epochs", "sigma", "decay", "cbs-every"))
    assert "grid" not in text


@pytest.mark.usefixtures("no_figures")
def test_what_had_not_its_course_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Records of before such plans were refused, and trainings that were stopped early."""
    records = [
        record(digits_trial(), [1, 1]),
        record(digits_trial("lerac", lerac_epochs=3.0), [1, 0], epochs=3),
        record(digits_trial("lerac", lerac_epochs=2.0), [1, 0], epochs=3),
        record(digits_trial("cbs", cbs_every=1.0), [1, 0], epochs=3),
    ]
    write_lines(tmp_path / "records.jsonl", records)
    assert main(["report", str(tmp_path / "records.jsonl")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    text = (tmp_path / "report" / "report.md").read_text()
    for said in (
        "LeRaC (lerac_epochs=3): LeRaC lasts 3 epochs, by lerac_epochs; the training ended before, and says nothing of "
        "it, in 1 of 1 runs",
        "CBS: CBS lasts 17 epochs, by cbs_every; the training ended before, and was tested under it, in 1 of 1 runs",
    ):
        assert said in printed
        assert f"- ResNet, small on Digits, {said}" in text
    assert "LeRaC (lerac_epochs=3) (did not end)" in text
    assert text.count("(did not end)") == 2, "its score, and its row of the comparison"
    assert "lerac_epochs=2) (did" not in text


def test_what_was_mixed_is_not_compared_with_what_was_not() -> None:
    """Before plans had mix-up off for all of a comparison, regimes with temperatures went without."""
    trials = [
        Trial("lenet", "esc50", regime, 0, digits_trial().settings) for regime in ("conventional", "lerac", "dp-class")
    ]
    rows = comparison_table("", cells_of([record(trial, [1]) for trial in trials])).rows
    assert [(row[0], bool(row[4])) for row in rows] == [
        ("LeNet-5 (mix_up=True)", False),
        ("LeNet-5 (mix_up=True)", True),
        ("LeNet-5 (mix_up=False)", False),
    ]


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


def test_what_rows_say_already_is_not_said_of_their_regimes() -> None:
    """A k for each length of the training."""
    trials = [digits_trial("lerac", epochs=epochs, lerac_epochs=k) for epochs, k in ((3, 1), (6, 2))]
    cells = cells_of([record(trial, [1]) for trial in trials])
    assert [(cell.model_title, cell.regime_title) for cell in cells] == [
        ("ResNet, small (epochs=3)", "LeRaC"),
        ("ResNet, small (epochs=6)", "LeRaC"),
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
    assert [r.trial for r in Reading([report / "records.jsonl"]).records if r.done] == trials
    # The same again from the lines alone, without the folder.
    assert main(["report", str(report / "records.jsonl"), "--output", str(tmp_path / "again")]) == 0
    again = (tmp_path / "again" / "report.md").read_text()
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert [line for line in again.splitlines() if line.startswith("|")] == tables
