"""Grids of settings: what is trained, and what is chosen by the validation part."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.tests.report.samples import record
from experiments.tests.trials.helpers import digits_trial
from lerac_experiments.cli import main
from lerac_experiments.commands.report import write_report
from lerac_experiments.errors import ExperimentError
from lerac_experiments.plans.grid import expanded, parse_grid
from lerac_experiments.report.reading import Reading, write_lines
from lerac_experiments.report.records import Record, cells_of
from lerac_experiments.report.tables import comparison_table, grid_table
from lerac_experiments.trials.manifest import Manifest
from lerac_experiments.trials.trial import Trial


def test_each_regime_is_trained_with_what_it_knows() -> None:
    grid = parse_grid(("lerac-epochs=0.5,1,2", "sigma=1,2", "lr=0.1,0.01", "--class-lr=0.1,1"))
    trials = [
        digits_trial(name) for name in ("conventional", "lerac", "cbs", "cbs+lerac", "dp-class", "warm-up+cosine")
    ]
    counts = [len(expanded([trial], grid)) for trial in trials]
    assert counts == [2, 2 * 3, 2 * 2, 2 * 2 * 3, 2 * 2, 2 * 3]
    for trial in expanded(trials, grid):
        assert set(trial.grid) <= set(grid)
    lerac = expanded([digits_trial("lerac")], grid)
    assert {(t.settings.lr, t.settings.lerac_epochs) for t in lerac} == {
        (lr, k) for lr in (0.1, 0.01) for k in (0.5, 1.0, 2.0)
    }
    assert {trial.settings.sigma for trial in lerac} == {digits_trial().settings.sigma}


def test_a_warm_up_with_a_length_of_its_own_knows_no_other() -> None:
    grid = parse_grid(("lerac-epochs=1,2",))
    warm_up, both = digits_trial("warm-up+cosine", warm_up_epochs=1.0), digits_trial("warm-up+cosine")
    assert len(expanded([warm_up], grid)) == 1
    assert len(expanded([both], grid)) == 2
    assert len(expanded([both], {**grid, "warm_up_epochs": [None, 1.0, 2.0]})) == 2 + 2


def test_a_trial_stays_in_its_grid(tmp_path: Path) -> None:
    """No id holds it, and who plans the trial again, by itself, does not take it out."""
    (trial,) = expanded([digits_trial("lerac")], {"lerac_epochs": [1.0]})
    Manifest("grid", (trial,)).write(tmp_path)
    Manifest("grid", (replace(trial, grid=()), digits_trial())).write(tmp_path)
    assert [each.grid for each in Manifest.read(tmp_path)] == [("lerac_epochs",), ()]


def test_lines_hold_the_grid_that_trials_are_in_now(tmp_path: Path) -> None:
    (trial,) = expanded([digits_trial("lerac")], {"lerac_epochs": [1.0]})
    before = record(replace(trial, grid=()), [1, 0])
    write_lines(tmp_path / "records.jsonl", [Record(trial, before.content)])
    assert [each.trial for each in Reading([tmp_path / "records.jsonl"]).records] == [trial]


def test_a_grid_is_no_part_of_the_training() -> None:
    (trial,) = expanded([digits_trial("lerac")], {"lerac_epochs": [1.0]})
    assert trial.id == digits_trial("lerac", lerac_epochs=1.0).id
    assert Trial.from_json(trial.to_json()) == trial
    assert trial.grid == ("lerac_epochs",)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("lerac-epochs", "must be a setting and its values, such as lerac-epochs=2,3,5"),
        ("lerac-epochs=", "must be a setting and its values"),
        ("luck=1,2", "'luck' is none of the settings optimizer, lr, min-lr"),
        ("label-noise=0.2,0.4", "'label-noise' is none of the settings"),
        ("epochs=2,2.5", "'2.5' is no value of it"),
        ("optimizer=SGD,Luck", "'Luck' is no value of it"),
        ("train-examples=100,200", "'train-examples' decides which examples .* give --train-examples itself"),
        ("test-examples=100,200", "'test-examples' decides which examples"),
        ("share=0.5,1", "'share' decides which examples"),
        ("by-speaker=True,False", "'by-speaker' decides which examples"),
    ],
)
def test_words_that_are_no_grid_are_refused(word: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        parse_grid((word,))


def test_kinds_of_values() -> None:
    words = ("optimizer=SGD,AdamW", "stop-patience=None,3", "nesterov=True,False", "epochs=2", "lr=1e-3")
    assert parse_grid(words) == {
        "optimizer": ["SGD", "AdamW"],
        "stop_patience": [None, 3],
        "nesterov": [True, False],
        "epochs": [2],
        "lr": [1e-3],
    }
    with pytest.raises(ExperimentError, match="lr is given twice"):
        parse_grid(("lr=1", "lr=2"))


def test_a_grid_is_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["plan", str(tmp_path), "--models", "resnet-small", "--data", "digits", "--seeds", "2"]
    assert main([*args, "--grid", "lerac-epochs=2,3,5", "min-lr=1e-6,1e-8"]) == 0
    assert len(Manifest.read(tmp_path)) == 2 * (1 + 6)
    assert main([*args, "--grid", "lerac-epochs=2,99"]) == 1
    assert "lerac_epochs=99 must be below epochs=15" in capsys.readouterr().err


def validated(trial: Trial, validation: float, correct: list[int]) -> Record:
    made = record(trial, correct)
    made.content["result"]["validation"] = validation
    return made


def _records() -> list[Record]:
    """The best by validation is not the best by test; and the one with the best single run has failed in another."""
    made = [validated(digits_trial(seed=seed), 0.5, [1, 0, 0, 0]) for seed in (0, 1)]
    for k, validation, correct, seeds in (
        (1.0, 0.6, [1, 1, 0, 0], (0, 1)),
        (2.0, 0.7, [1, 0, 0, 0], (0, 1)),
        (0.5, 0.9, [1, 1, 1, 1], (0,)),
    ):
        for seed in seeds:
            (trial,) = expanded([digits_trial("lerac", seed)], {"lerac_epochs": [k]})
            made.append(validated(trial, validation, correct))
    return made


def test_the_best_on_the_validation_part_is_chosen() -> None:
    cells = cells_of(_records())
    assert [cell.regime_title for cell in cells] == ["conventional", "LeRaC (lerac_epochs=2.0)"]
    assert [len(cell.rivals) for cell in cells] == [0, 3]
    (row,) = [row for row in comparison_table("", cells).rows if row[2].startswith("LeRaC")]
    assert row[3] == "25.00 ± 0.00%"
    assert row[4].startswith("+0.00")
    table = grid_table("", cells)
    assert [(row[3], row[4].strip("\0"), row[5], row[6]) for row in table.rows] == [
        ("lerac_epochs=1.0", "60.00 ± 0.00%", "2", ""),
        ("lerac_epochs=2.0", "70.00 ± 0.00%", "2", "chosen"),
        ("lerac_epochs=0.5", "90.00%", "1", ""),
    ]


def test_rates_that_all_regimes_know_are_chosen_for_each() -> None:
    """And the chosen are compared with each other."""
    records = []
    for regime, best in (("conventional", 0.1), ("lerac", 0.01)):
        for trial in expanded([digits_trial(regime)], {"lr": [0.1, 0.01], "lerac_epochs": [1.0]}):
            good = trial.settings.lr == best
            records.append(validated(trial, 0.9 if good else 0.1, [1, 1, 0, int(regime == "lerac")]))
    cells = cells_of(records)
    assert [cell.regime_title for cell in cells] == ["conventional (lr=0.1)", "LeRaC (lr=0.01)"]
    rows = comparison_table("", cells).rows
    assert rows[1][4].startswith("+25.00"), "against the conventional training that was chosen"


@pytest.mark.usefixtures("no_figures")
def test_the_report_shows_all_of_it(tmp_path: Path) -> None:
    write_lines(tmp_path / "records.jsonl", _records())
    written = write_report(tmp_path / "records.jsonl")
    text = (written.output / "report.md").read_text()
    assert "## Chosen among, by validation" in text
    assert "| LeRaC | lerac_epochs=2 | **70.00 ± 0.00%** | 2 | chosen |" in text
    assert "The choice has not seen the test part" in text
    assert "the p-values know nothing of the choice" in text.replace("\n", " ")
