"""Records and manifests: numbers that are none, damage, clocks that disagree, and what was killed in between."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.tests.trials.helpers import Killed, die, digits_trial, on_call, planned, record_of, run
from lerac_experiments import run_trial
from lerac_experiments.cli import main
from lerac_experiments.errors import ExperimentError
from lerac_experiments.files import read_json, write_json
from lerac_experiments.report.reading import Reading
from lerac_experiments.training.runner import Runner
from lerac_experiments.training.tasks import Classification, Outcome
from lerac_experiments.trials.manifest import FILE
from lerac_experiments.trials.record import check_record
from lerac_experiments.trials.store import TrialFolder

PUBLISHED = Path(__file__).parents[3] / "docs" / "results" / "small" / "records.jsonl"
NESTED = "[" * 200_000 + "]" * 200_000


@pytest.mark.parametrize("loss", [float("inf"), float("nan")])
def test_a_test_loss_that_is_no_number_ends_its_trial_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], loss: float
) -> None:
    """Training and validation had finite ones."""
    first, second = digits_trial(), digits_trial(seed=1)
    folder = planned(tmp_path, first, second)
    evaluate = Classification.evaluate

    def spoiled(task: Classification, model: Any, batches: Any, count: int, ranks: Any) -> Outcome:
        outcome = evaluate(task, model, batches, count, ranks)
        return replace(outcome, loss=loss) if count == 50 and not seen else outcome

    seen: list[int] = []
    monkeypatch.setattr(Classification, "evaluate", spoiled)
    monkeypatch.setattr(TrialFolder, "write_record", _then(TrialFolder.write_record, lambda: seen.append(1)))
    assert run(folder) == 1
    record = record_of(folder, first)
    assert (record["status"], record["error"], record["diverged"]) == ("failed", f"the test loss is {loss}", True)
    assert record_of(folder, second)["status"] == "done"
    monkeypatch.setattr(Runner, "__init__", lambda *_: pytest.fail("trained again"))
    assert run(folder) == 1
    assert "1 done before, 1 failed before" in capsys.readouterr().out


def _then(function: Callable[..., Any], act: Callable[[], Any]) -> Callable[..., Any]:
    def call(*args: Any) -> None:
        function(*args)
        act()

    return call


def test_what_another_process_has_done_meanwhile_was_not_done_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = digits_trial(), digits_trial(seed=1)
    folder = planned(tmp_path, first, second)
    others = [second.id]
    monkeypatch.setattr(
        TrialFolder,
        "write_record",
        _then(TrialFolder.write_record, lambda: run_trial(folder, others.pop()) if others else None),
    )
    assert run(folder) == 0
    assert "1 done, 1 run elsewhere" in capsys.readouterr().out


def test_numbers_that_json_does_not_have_are_null(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": [1.5, float("inf")], "b": {"c": float("nan")}, "d": (float("-inf"), True)})
    assert read_json(path) == {"a": [1.5, None], "b": {"c": None}, "d": [None, True]}


def test_names_of_files_that_are_not_utf8_survive_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"/data/caf\xe9/\xc3\xa9")
    path = tmp_path / "x.json"
    write_json(path, {"error": name})
    assert read_json(path) == {"error": name}
    assert "é" in path.read_text(encoding="utf-8")


def _without(*keys: str) -> Callable[[dict[str, Any]], None]:
    def remove(record: dict[str, Any]) -> None:
        for key in keys[:-1]:
            record = record[key]
        del record[keys[-1]]

    return remove


CHANGES: list[Callable[[dict[str, Any]], Any]] = [
    *(_without(*keys.split(".")) for keys in ("trial", "trial.id", "status", "sizes", "sizes.test", "data", "epochs")),
    *(_without(*keys.split(".")) for keys in ("result.test", "result.metric", "environment.machine", "rates.steps")),
    *(_without(*keys.split(".")) for keys in ("environment.versions.torch", "ranks", "steps_per_epoch", "model")),
    lambda record: record["trial"].update(id="0"),
    lambda record: record.update(status="gone"),
    lambda record: record.update(status=["done"]),
    lambda record: record.update(sizes=[90, 10, 50]),
    lambda record: record.update(epochs=[]),
    lambda record: record.update(epochs=[3]),
    lambda record: record["epochs"][1].pop("seconds"),
    lambda record: record["epochs"][1].update(sigma=None),
    lambda record: record["result"].update(test=None),
    lambda record: record["result"].update(test=True),
    lambda record: record["result"].update(correct="AAAA"),
    lambda record: record["result"].update(correct="é"),
    lambda record: record["rates"]["steps"].pop(),
    lambda record: record["rates"]["first_middle_last"].__setitem__(0, [0.1, 0.1]),
]

CONTENTS = [
    *("", "{}", "[]", "null", "damaged", NESTED, '{"status": NaN}', '{"status": ' + NESTED + "}"),
    '{"status": ' + "9" * 5_000 + "}",
]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of a trial."""
    folder = planned(tmp_path_factory.mktemp("done"), digits_trial())
    assert run(folder) == 0
    record: dict[str, Any] = read_json(TrialFolder(folder, digits_trial()).record_path)
    return record


@pytest.mark.parametrize("change", CHANGES)
def test_a_record_that_lacks_something_counts_as_failed(
    tmp_path: Path, done: dict[str, Any], change: Callable[[dict[str, Any]], Any]
) -> None:
    trial = digits_trial()
    folder = TrialFolder(planned(tmp_path, trial), trial)
    content = json.loads(json.dumps(done))
    change(content)
    folder.path.mkdir(parents=True)
    folder.record_path.write_text(json.dumps(content))
    with pytest.raises(ExperimentError, match="give --retry-failed, to run the trial again"):
        folder.record()
    assert len(Reading([tmp_path]).unreadable) == 1


@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
def test_a_damaged_record_leaves_the_others_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], done: dict[str, Any], content: str
) -> None:
    trial, other = digits_trial(), digits_trial(seed=1)
    folder = planned(tmp_path, trial, other)
    path = TrialFolder(folder, trial).record_path
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert run(folder) == 1
    printed = "".join(capsys.readouterr().out.split())
    assert "".join(str(path).split()) in printed
    assert "removeit" in printed
    assert record_of(folder, other)["status"] == "done"
    assert path.read_text() == content
    reading = Reading([folder])
    assert [record.trial for record in reading.records] == [other]
    assert len(reading.unreadable) == 1
    assert run(folder, "--retry-failed") == 0
    assert record_of(folder, trial)["result"] == done["result"]
    assert path.with_name("record.aside.json").read_text() == content


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_record_that_is_no_file_keeps_nobody_waiting(tmp_path: Path, make: Callable[[Path], None]) -> None:
    trial, other = digits_trial(), digits_trial(seed=1)
    folder = planned(tmp_path, trial, other)
    path = TrialFolder(folder, trial).record_path
    path.parent.mkdir(parents=True)
    make(path)
    assert run(folder) == 1
    assert record_of(folder, other)["status"] == "done"
    reading = Reading([folder])
    assert [record.trial for record in reading.records] == [other]
    assert len(reading.unreadable) == 1
    assert run(folder, "--retry-failed") == 0
    assert record_of(folder, trial)["status"] == "done"


def _failed(folder: TrialFolder, **more: Any) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(folder.record_path, {"trial": folder.trial.to_json(), "status": "failed", "error": "no luck", **more})


@pytest.mark.parametrize("times", [{"started": 4e9, "ended": 4e9}, {}, {"ended": None}], ids=str)
def test_failed_trials_are_tried_again_whatever_clocks_say(tmp_path: Path, times: dict[str, Any]) -> None:
    """Another machine's may be ahead."""
    trial = digits_trial()
    folder = TrialFolder(planned(tmp_path, trial), trial)
    _failed(folder, **times)
    assert run(tmp_path) == 1
    assert run(tmp_path, "--retry-failed") == 0
    assert record_of(tmp_path, trial)["status"] == "done"


def test_what_another_process_has_tried_again_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was started together with this one, and its clock is behind."""
    trials = [digits_trial(seed=seed) for seed in range(3)]
    planned(tmp_path, *trials)
    folders = [TrialFolder(tmp_path, trial) for trial in trials]
    for folder in folders[:2]:
        _failed(folder, ended=1.0)

    def other_process(*_: Any) -> None:
        for folder in folders[1:]:
            _failed(folder, ended=0.0)

    on_call(monkeypatch, Runner, "run", 1, other_process)
    assert run(tmp_path, "--retry-failed") == 1
    assert "1 done, 2 failed before" in capsys.readouterr().out


def test_what_has_diverged_starts_anew_after_a_kill_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the record and the removal of the checkpoints, which hold what is no number."""
    trial = digits_trial()
    folder = TrialFolder(planned(tmp_path, trial), trial)

    def spoil(runner: Runner, _: Any) -> None:
        next(runner.model.parameters()).data.fill_(torch.nan)

    with monkeypatch.context() as patch:
        on_call(patch, Runner, "_step", 7, spoil)
        on_call(patch, TrialFolder, "remove_unneeded", 1, die)
        with pytest.raises(Killed):
            run(tmp_path)
    assert folder.checkpoint_path.exists()
    assert run(tmp_path, "--retry-failed") == 0
    assert record_of(tmp_path, trial)["resumed"] == 0


def test_published_records_are_read() -> None:
    records = [json.loads(line) for line in PUBLISHED.read_text(encoding="utf-8").splitlines()]
    assert len(records) == 195
    for record in records:
        assert check_record(record) == record


@pytest.mark.parametrize("content", [NESTED, '{"format": 1, "name": "x", "trials": [1]}', '{"format": 1, "x": NaN}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (tmp_path / FILE).write_text(content)
    for command in ("run", "report"):
        assert main([command, str(tmp_path)]) == 1
        assert str(tmp_path / FILE) in capsys.readouterr().err


def test_a_manifest_that_is_no_file_keeps_nobody_waiting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / FILE)
    assert run(tmp_path) == 1
    assert f"{tmp_path / FILE} is no regular file" in capsys.readouterr().err


@pytest.mark.parametrize("regime", ["conventional", "cbs+lerac", "lerac-snr", "warm-up+cosine"])
def test_the_rates_of_all_layers_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, regime: str) -> None:
    """Those of a layer at a step are the last that were noted until then; or one for all."""
    seen: list[list[float]] = []
    names: list[str] = []

    def watch(self: Runner, *_: Any) -> None:
        seen.append([group["lr"] for group in self.optimizer.param_groups])
        names[:] = [group["name"] for group in self.optimizer.param_groups]

    monkeypatch.setattr(Runner, "_step", _after(watch, Runner._step))
    trial = digits_trial(regime)
    assert run(planned(tmp_path, trial)) == 0
    rates = record_of(tmp_path, trial)["rates"]
    assert rates["layers"] == names
    noted = dict(zip(rates["changes"], rates["all"], strict=True))
    current: list[float] = []
    for step, expected in enumerate(seen):
        current = noted.get(step, current)
        assert (current * len(names) if len(current) == 1 else current) == expected
    if regime == "conventional":
        assert rates["all"] == [[trial.settings.lr]], "as short as it can be"


def _after(act: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        act(*args)
        return function(*args)

    return call


def test_a_log_says_what_has_been_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no terminal for bars; once, and not what was done before."""
    first, second = digits_trial(), digits_trial(seed=1)
    assert run(planned(tmp_path, first, second)) == 0
    said = capsys.readouterr().out
    assert f"{first.name}: done, 1 of 2\n{second.name}: done, 2 of 2\n" in said
    assert run(tmp_path) == 0
    assert first.name not in capsys.readouterr().out
