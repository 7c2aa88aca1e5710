"""Trials and manifests: what names a trial, and what is read back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.tests.trials.helpers import digits_trial
from lerac_experiments.errors import ExperimentError
from lerac_experiments.settings import Protocol
from lerac_experiments.trials.manifest import FILE, Manifest
from lerac_experiments.trials.trial import Trial


def test_the_content_makes_the_id() -> None:
    trial = digits_trial()
    assert trial.id == digits_trial().id
    assert len(trial.id) == 12
    others = (
        digits_trial("lerac"),
        digits_trial(seed=1),
        digits_trial(lr=0.2),
        digits_trial(label_noise=0.1),
        replace(trial, model="lenet"),
        replace(trial, data="fashion-mnist"),
    )
    assert len({trial.id, *(other.id for other in others)}) == 7


def test_equal_content_has_equal_ids() -> None:
    assert digits_trial(lerac_epochs=2).id == digits_trial(lerac_epochs=2.0).id
    usual = Protocol(train_examples=100, test_examples=50, plateau_patience=Protocol().plateau_patience)
    assert replace(digits_trial(), protocol=usual).id == digits_trial().id


@pytest.mark.parametrize("changes", [{}, {"sigma_bounds": (0.05, 20.0), "stop_patience": None}, {"momentum": 0.0}])
def test_a_trial_survives_json(changes: dict[str, Any]) -> None:
    trial = digits_trial(**changes)
    assert Trial.from_json(json.loads(json.dumps(trial.to_json()))) == trial


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(seed=1), "was changed by hand"),
        (lambda t: t["settings"].update(lr=0.3), "was changed by hand"),
        (lambda t: t["settings"].pop("lr"), r"settings: unknown keys \[\], missing keys \['lr'\]"),
        (lambda t: t["protocol"].update(speed=1), r"protocol: unknown keys \['speed'\]"),
        (lambda t: t.pop("model"), r"trial: unknown keys \[\], missing keys \['model'\]"),
        (lambda t: t.update(settings=3), "settings: 3 is no object"),
    ],
)
def test_a_damaged_trial_is_refused(change: Any, message: str) -> None:
    content = json.loads(json.dumps(digits_trial().to_json()))
    change(content)
    with pytest.raises(ExperimentError, match=message):
        Trial.from_json(content)


def test_manifest_is_read_back(tmp_path: Path) -> None:
    manifest = Manifest("mine", (digits_trial(), digits_trial("lerac")))
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest


def test_trials_are_added_and_never_replaced(tmp_path: Path) -> None:
    Manifest("mine", (digits_trial(),)).write(tmp_path)
    Manifest("mine", (digits_trial(), digits_trial(seed=1))).write(tmp_path)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(ExperimentError, match="plans other trials"):
        Manifest("mine", (digits_trial(seed=1),)).write(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before
    assert len(Manifest.read(tmp_path)) == 2


def test_the_settings_are_named_in_which_planned_trials_are_others(tmp_path: Path) -> None:
    Manifest("mine", (digits_trial(), digits_trial("lerac", epochs=5))).write(tmp_path)
    with pytest.raises(ExperimentError, match="plans other trials, with epochs=5 instead of 6: plan into another"):
        Manifest("mine", (digits_trial(), digits_trial("lerac", epochs=6))).write(tmp_path)
    with pytest.raises(ExperimentError, match="plans other trials: "):
        Manifest("mine", (digits_trial(), digits_trial("cbs", epochs=6))).write(tmp_path)


def test_a_trial_is_planned_once() -> None:
    with pytest.raises(ExperimentError, match="resnet-small on digits, conventional, seed 0 is planned twice"):
        Manifest("mine", (digits_trial(), digits_trial()))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 2, "name": "x", "trials": []}', '{"format": 1'])
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ExperimentError, match=FILE):
        Manifest.read(tmp_path)


def test_trials_are_found_by_the_beginnings_of_their_ids() -> None:
    trials = tuple(digits_trial(seed=seed) for seed in range(3))
    manifest = Manifest("mine", trials)
    assert manifest.find([trials[2].id[:8], trials[0].id]) == [trials[2], trials[0]]
    with pytest.raises(ExperimentError, match=r"0 trials of mine .* 'xyz'"):
        manifest.find(["xyz"])
    with pytest.raises(ExperimentError, match="3 trials"):
        manifest.find([""])


def test_the_protocol_is_plain_values() -> None:
    assert all(isinstance(value, int | float | str | bool | tuple | type(None)) for value in vars(Protocol()).values())
