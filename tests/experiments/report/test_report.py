"""Reports: what is computed from records, and what is written of them."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from lerac_fast.experiments.cli import main
from lerac_fast.experiments.environment import environment
from lerac_fast.experiments.report import command
from lerac_fast.experiments.report.reading import Reading, write_lines
from lerac_fast.experiments.report.records import Record, cells_of
from lerac_fast.experiments.report.statistics import Comparison, compare, mcnemar_p, paired_t_p
from lerac_fast.experiments.report.tables import (
    BOLD,
    DIFFERENCE,
    MCNEMAR_P,
    P_VALUE,
    Table,
    comparison_table,
    score_table,
)
from lerac_fast.experiments.results import pack_bits, unpack_bits
from lerac_fast.experiments.trials.store import TrialFolder
from lerac_fast.experiments.trials.trial import Trial
from tests.experiments.trials.helpers import digits_trial, planned, run

ENVIRONMENT = environment()


def record(trial: Trial, correct: list[int], seconds: float = 1.0, epochs: int = 2) -> Record:
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
            "test_loss": 1.0,
            "validation": 0.5,
            "best_epoch": 1,
            "correct": pack_bits(hits),
        },
        "sizes": {"train": 90, "validation": 10, "test": len(correct)},
        "epochs": [epoch] * epochs,
        "rates": {"steps": [0, 5], "first_middle_last": [[0.1, 0.01, 0.001], [0.1, 0.1, 0.1]]},
        "data": {"source": "the test", "note": None},
        "model": {"parameters": 1, "layers": 3, "groups": 3},
        "device": "cpu",
        "steps_per_epoch": 5,
        "ranks": 1,
        "environment": copy.deepcopy(ENVIRONMENT),
    }
    return Record(trial, content)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds."""
    monkeypatch.setattr(command, "write_figures", lambda *_: {})


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_bits_survive(count: int) -> None:
    values = torch.rand(count) < 0.5
    assert unpack_bits(pack_bits(values), count).tolist() == values.tolist()


def compared(ours: list[list[int]], theirs: list[list[int]], **of_ours: Any) -> Comparison:
    """LeRaC against conventional training: for each seed, which test examples are classified correctly."""
    conventional = [record(digits_trial(seed=seed), correct) for seed, correct in enumerate(theirs)]
    lerac = [record(digits_trial("lerac", seed), correct, **of_ours) for seed, correct in enumerate(ours)]
    baseline, cell = cells_of([*conventional, *lerac])
    result = compare(cell, baseline)
    assert result is not None
    return result


def gaining(points: int, of: int = 1000) -> tuple[list[int], list[int]]:
    """Two runs, the first of which classifies so many examples more correctly; they differ on 200."""
    gained = 100 + points // 2
    return [1] * gained + [0] * (200 - gained) + [1] * (of - 200), [0] * gained + [1] * (of - gained)


@pytest.mark.parametrize(
    ("ours_only", "theirs_only"), [(0, 0), (1, 0), (5, 0), (3, 3), (3, 4), (40, 20), (1000, 800), (900, 5000)]
)
def test_mcnemar_of_one_seed_is_binomial(ours_only: int, theirs_only: int) -> None:
    gains = np.array([1] * ours_only + [-1] * theirs_only + [0] * 13)
    differing = ours_only + theirs_only
    expected = binomtest(ours_only, differing).pvalue if differing else 1.0
    assert mcnemar_p([gains]) == pytest.approx(expected, rel=1e-6, abs=1e-15)
    assert mcnemar_p([-gains]) == pytest.approx(mcnemar_p([gains]))


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_of_several_seeds_tries_all_signs(seed: int) -> None:
    generator = np.random.default_rng(seed)
    gains = generator.integers(-3, 4, size=10)
    signs = np.array([[1 if number >> bit & 1 else -1 for bit in range(10)] for number in range(2**10)])
    sums = (signs * np.abs(gains)).sum(axis=1)
    expected = min(1.0, 2 * min((sums >= gains.sum()).mean(), (sums <= gains.sum()).mean()))
    assert mcnemar_p([gains[:4], gains[4:]]) == pytest.approx(expected)


def test_runs_on_the_same_examples_are_not_independent() -> None:
    """Ten seeds that go the same way on every example say no more of other examples than one does."""
    ours, theirs = gaining(20)
    alone = compared([ours], [theirs])
    assert compared([ours] * 10, [theirs] * 10).mcnemar_p == pytest.approx(alone.mcnemar_p)
    assert alone.mcnemar_p == pytest.approx(0.178964, rel=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_seeds_that_contradict_each_other_are_no_evidence(sign: int) -> None:
    """+2.0, +9.7 and -10.7 points, and their mirror image."""
    ours, theirs = zip(*(gaining(sign * points) for points in (20, 96, -106)), strict=True)
    result = compared(list(ours), list(theirs))
    assert (result.better, result.worse) == (1, 1)
    assert result.difference == pytest.approx(sign * 10 / 3000)
    assert result.mcnemar_p is not None
    assert result.mcnemar_p > 0.2
    assert result.p_value is not None
    assert result.p_value > 0.9


def test_what_other_seeds_may_undo_is_not_significant() -> None:
    """However many test examples there are: seeds vary by more than the mean difference."""
    ours, theirs = zip(*(gaining(points) for points in (20, 96, -6)), strict=True)
    result = compared(list(ours), list(theirs))
    assert result.mcnemar_p is not None
    assert result.mcnemar_p < 0.01
    assert result.seeds_p == pytest.approx(0.353, rel=1e-2)
    assert result.p_value == result.seeds_p


def test_what_all_seeds_agree_on_is_significant() -> None:
    ours, theirs = zip(*(gaining(points) for points in (-60, -64, -62)), strict=True)
    result = compared(list(ours), list(theirs))
    assert (result.better, result.worse) == (0, 3)
    assert result.p_value is not None
    assert result.p_value < 0.001


def test_a_single_seed_is_not_doubled_and_says_nothing_of_others() -> None:
    ours, theirs = gaining(30)
    result = compared([ours], [theirs])
    assert result.mcnemar_p == pytest.approx(mcnemar_p([np.array(ours) - np.array(theirs)]))
    assert result.seeds_p is None
    assert result.p_value is None
    assert result.overhead is None


def test_paired_t() -> None:
    """t = 2 with 3 degrees of freedom."""
    assert paired_t_p(np.array([0.0, 1.0, 1.0, 2.0]) * 3**0.5) == pytest.approx(0.091721, rel=1e-4)
    assert paired_t_p(np.array([0.25, 0.25])) is None


def test_regimes_are_compared_seed_by_seed() -> None:
    conventional = [
        record(digits_trial(seed=0), [1, 0, 0, 0], 1.0),
        record(digits_trial(seed=1), [1, 1, 0, 0], 2.0),
        record(digits_trial(seed=2), [1, 1, 1, 1], 1.0),  # without a counterpart
    ]
    lerac = [record(digits_trial("lerac", 1), [1, 1, 1, 0], 2.2), record(digits_trial("lerac", 0), [1, 1, 0, 0], 1.2)]
    baseline, cell = cells_of([*conventional, *lerac])
    assert [r.trial.seed for r in cell.records] == [0, 1]
    result = compare(cell, baseline)
    assert result is not None
    assert result.difference == pytest.approx(0.25)
    assert result.difference_deviation == pytest.approx(0.0)
    assert result.mcnemar_p == 0.5  # one example gained in either seed, on none of which they contradict each other
    assert (result.better, result.worse) == (0, 0)
    other = cells_of([record(digits_trial("lerac", 9), [1])])[0]
    assert compare(other, baseline) is None


def test_an_overhead_that_may_be_noise_is_called_noise() -> None:
    seconds = ((1.0, 1.78), (1.0, 1.09), (1.1, 1.1))  # the mean of the ratios is 1.29
    conventional = [record(digits_trial(seed=seed), [1], theirs) for seed, (theirs, _) in enumerate(seconds)]
    cbs = [record(digits_trial("cbs", seed), [1], ours) for seed, (_, ours) in enumerate(seconds)]
    dear = [record(digits_trial("lerac", seed), [1], 2.0 * theirs) for seed, (theirs, _) in enumerate(seconds)]
    baseline, noisy, twice = cells_of([*conventional, *cbs, *dear])
    of_noisy, of_twice = compare(noisy, baseline), compare(twice, baseline)
    assert of_noisy is not None
    assert of_noisy.overhead is not None
    assert of_noisy.overhead.is_noise
    assert of_twice is not None
    assert of_twice.overhead is not None
    assert not of_twice.overhead.is_noise
    assert of_twice.overhead.estimate == of_twice.overhead.low == pytest.approx(1.0)
    rows = comparison_table("", [baseline, noisy, twice]).rows
    assert [row[-2] for row in rows] == ["", "within noise (-42.4 to +170.1%)", "+100.0% (+100.0 to +100.0%)"]


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


def test_other_test_examples_and_machines_are_not_compared() -> None:
    ours, theirs = record(digits_trial("lerac"), [1, 0, 1]), record(digits_trial(), [1, 1])
    ours.content["environment"]["machine"]["threads"] += 1
    baseline, cell = cells_of([theirs, ours])
    result = compare(cell, baseline)
    assert result is not None
    assert result.mcnemar_p is None
    assert result.overhead is None


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
    assert [r.trial for r in Reading([report / "records.jsonl"]).records if r.done] == trials
    # The same again from the lines alone, without the folder.
    assert main(["report", str(report / "records.jsonl"), "--output", str(tmp_path / "again")]) == 0
    again = (tmp_path / "again" / "report.md").read_text()
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert [line for line in again.splitlines() if line.startswith("|")] == tables


@pytest.mark.usefixtures("no_figures")
def test_a_place_that_is_given_twice_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the same name, by another one, or as a copy."""
    trials = [digits_trial(seed=seed) for seed in range(2)]
    folder = planned(tmp_path / "four", *trials)
    TrialFolder(folder, trials[0]).path.mkdir(parents=True)
    TrialFolder(folder, trials[0]).write_record(record(trials[0], [1, 0]).content)
    (tmp_path / "link").symlink_to(folder)
    for other in (folder, folder / ".." / "four", tmp_path / "link"):
        assert main(["report", str(folder), str(other)]) == 0
        printed = capsys.readouterr().out
        assert "1 of 2 trials have ended" in printed
        assert "another one" not in printed
    lines = folder / "report" / "records.jsonl"
    assert main(["report", str(folder), str(lines)]) == 0
    said = "1 records are of trials of which there is another one, and do not count"
    assert said in " ".join(capsys.readouterr().out.split())
    text = (folder / "report" / "report.md").read_text()
    assert "1 of 2 trials are done" in text
    assert said in text


def without(*keys: str) -> str:
    """A record that lacks something."""
    content = json.loads(json.dumps(record(digits_trial(), [1]).content))
    part = content
    for key in keys[:-1]:
        part = part[key]
    del part[keys[-1]]
    return json.dumps(content)


DAMAGED = {
    "an empty object": "{}",
    "no object": "[1]",
    "half": without("sizes")[:100],
    "no sizes": without("sizes"),
    "no times": without("epochs", 1, "seconds"),  # type: ignore[arg-type]
    "no machine": without("environment", "machine"),
    "no rates": without("rates"),
    "no steps": without("steps_per_epoch"),
    "nested": "[" * 200_000,
    "NaN": json.dumps(record(digits_trial(), [1]).content).replace('"test": 1.0', '"test": NaN'),
    "no base64": json.dumps(record(digits_trial(), [1]).content).replace('"correct": "gA=="', '"correct": "?"'),
    "no text": b"\xff\xfe",
}


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("damage", DAMAGED)
def test_what_cannot_be_read_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    good, bad = digits_trial(seed=1), digits_trial()
    content = DAMAGED[damage]
    content = content if isinstance(content, bytes) else content.encode()
    folder = planned(tmp_path / "mine", good, bad)
    for trial, text in ((good, json.dumps(record(good, [1]).content).encode()), (bad, content)):
        stored = TrialFolder(folder, trial)
        stored.path.mkdir(parents=True)
        stored.record_path.write_bytes(text)
    lines = tmp_path / "lines.jsonl"
    lines.write_bytes(json.dumps(record(good, [1]).content).encode() + b"\n" + content + b"\n")
    for place, named in ((folder, str(TrialFolder(folder, bad).record_path)), (lines, f"{lines}, line 2")):
        assert main(["report", str(place)]) == 1
        printed = capsys.readouterr()
        assert f"the report goes without 1 that could not be read: {named}" in printed.err
        assert "Traceback" not in printed.err
        text = ((place if place.is_dir() else tmp_path) / "report" / "report.md").read_text()
        assert "1 of 2 trials are done" in text or place == lines
        assert f"## Not readable, and left out\n\n- {named}" in text


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("content", ["{}", "[" * 200_000, '{"format": 1, "name": "x", "trials": [[]]}', "[]", "nul"])
def test_a_damaged_manifest_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text(content)
    named = f"{tmp_path / 'bad' / 'manifest.json'}"
    assert main(["report", str(tmp_path / "bad")]) == 1
    assert named in capsys.readouterr().err
    write_lines(tmp_path / "good.jsonl", [record(digits_trial(), [1])])
    assert main(["report", str(tmp_path / "bad"), str(tmp_path / "good.jsonl"), "--output", str(tmp_path)]) == 1
    assert named in capsys.readouterr().err
    assert "1 of 1 trials are done" in (tmp_path / "report.md").read_text()


@pytest.mark.usefixtures("no_figures")
def test_names_are_no_markup_and_need_not_be_utf_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "[red]x[" / os.fsdecode(b"blue] \xff")
    place.mkdir(parents=True)
    folder = planned(place, digits_trial())
    TrialFolder(folder, digits_trial()).path.mkdir(parents=True)
    TrialFolder(folder, digits_trial()).write_record(record(digits_trial(), [1]).content)
    assert main(["report", str(folder)]) == 0
    assert "[red]x[/blue]" in capsys.readouterr().out
    assert (folder / "report" / "report.md").read_text().startswith("# blue] \\udcff\n")


def test_records_of_the_small_reproduction_are_read() -> None:
    reading = Reading([Path(__file__).parents[3] / "docs/results/small/records.jsonl"])
    assert (reading.planned, len(reading.records), reading.unreadable, reading.repeated) == (145, 145, [], 0)
    assert all(cell.ended for cell in cells_of(reading.records))
