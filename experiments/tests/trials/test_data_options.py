"""Options of data sets, from the command line to what is asked of the data; and the ids of what has been run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lerac_experiments.cli import main
from lerac_experiments.models import MODELS
from lerac_experiments.settings import Protocol
from lerac_experiments.training.preparation import request_for
from lerac_experiments.trials.manifest import FILE, Manifest
from lerac_experiments.trials.trial import Trial

RECORDS = Path(__file__).parents[3] / "docs" / "results" / "small" / "records.jsonl"


def test_crema_d_by_speaker(tmp_path: Path) -> None:
    args = ["--models", "septr-small", "--data", "crema-d", "--regimes", "conventional", "--seeds", "1"]
    for folder, options in (("clips", ["--no-by-speaker"]), ("usual", []), ("speakers", ["--by-speaker"])):
        assert main(["plan", str(tmp_path / folder), *args, *options]) == 0
    clips, usual, speakers = (Manifest.read(tmp_path / name).trials[0] for name in ("clips", "usual", "speakers"))
    assert clips.id == usual.id != speakers.id
    assert request_for(speakers, MODELS[speakers.model], None).by_speaker
    assert not request_for(usual, MODELS[usual.model], None).by_speaker
    assert replace(speakers, protocol=Protocol()).id == usual.id


def test_by_speaker_is_for_data_that_can_be_divided_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--models", "septr-small", "--data", "spoken-digits", "--by-speaker"]
    assert main(["plan", str(tmp_path), *args]) == 1
    assert "by_speaker is for crema-d, and the data is spoken-digits" in capsys.readouterr().err
    assert not (tmp_path / FILE).exists()


def test_the_trials_that_have_been_run_keep_their_ids() -> None:
    """An option at its usual value changes none."""
    trials = [json.loads(line)["trial"] for line in RECORDS.read_text(encoding="utf-8").splitlines()]
    assert len(trials) == 195
    for trial in trials:
        assert Trial.from_json(trial).id == trial["id"]
