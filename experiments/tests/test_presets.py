"""Every preset runs from its plan to its report, at the smallest scale, on files in the formats of its data sets.

With the other tests, with smaller models where the preset's take more than seconds; with all models at their full size,
by `make test-presets`.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.tests.data.test_cifar import write_batch
from experiments.tests.test_every_data_set import WRITE
from experiments.tests.trials.helpers import record_of
from lerac_experiments.cli import main
from lerac_experiments.models import MODELS
from lerac_experiments.presets import PRESETS
from lerac_experiments.trials.manifest import Manifest
from lerac_experiments.trials.trial import Trial

SMALLEST = "1e-6"
"""A scale that leaves two epochs of ten examples."""

QUICK = {
    "table2": ("resnet18", "cifar10", "lerac"),
    "table3": ("lstm", "rte", "lerac"),
    "table4": ("densenet121", "esc50", "cbs"),
    "table5": ("cvt13", "cifar10", "lerac-linear"),
    "dcl-table1": ("resnet18", "imagenet", "dp-class"),
    "dcl-table2": ("wrn-28-10", "cifar10", "dp-instance"),
    "small": ("septr-small", "spoken-digits", "cbs+lerac"),
    "review": ("resnet18", "cifar10", "efficient-train"),
    "lerac-ijcv": ("resnet18", "utkface", "lerac"),
    "dcl-figure4": ("wrn-28-10", "cifar100", "dp-instance"),
    "dcl-random": ("vgg16", "cifar100", "dp-joint"),
    "dcl-webvision": ("resnet18", "webvision", "dp-joint"),
    "dcl-kitti": ("ssd", "kitti", "dp-instance"),
    "lerac-yolo": ("yolo", "voc", "lerac"),
}
"""What runs with the other tests: of every preset a model, a data set and a regime."""

ELSEWHERE = {"demo", "demo-noise"}
"""Presets that have tests of their own."""

SMALLER = {
    "cvt13": "cvt-small",
    "densenet121": "densenet-small",
    "lstm": "lstm-small",
    "ssd": "ssd-small",
    "vgg16": "resnet-small",
    "wrn-28-10": "wrn-16-2",
    "yolo": "yolo-small",
}
"""The models that take their place there."""

OWN_SIZES = ("digits", "cifar10", "cifar100", "cifar10-subset", "fashion-mnist", "tiny-imagenet")
"""Of the data sets of images, those whose images are small as they come."""

SOUNDS = ("crema-d", "esc50")
"""Those of recordings, of which a part is taken: SepTr would take 71 GB."""


def _cases() -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Of each preset, model and data set, the regimes that no preset before has had there."""
    cases: dict[tuple[str, str, str], tuple[str, ...]] = {}
    seen = set()
    for preset, trials in PRESETS.items():
        for trial in trials():
            place = trial.model, trial.data, trial.regime
            if place not in seen:
                case = preset, trial.model, trial.data
                cases[case] = (*cases.get(case, ()), trial.regime)
                seen.add(place)
    return cases


def _plan(folder: Path, monkeypatch: pytest.MonkeyPatch, preset: str, data: str, regimes: tuple[str, ...]) -> Manifest:
    """The trials of a preset in these regimes, at the smallest scale, on files in the format of the data."""
    files = folder / "data"
    files.mkdir()
    monkeypatch.setenv("LERAC_FAST_DATA", str(files))
    WRITE[data](files)
    if preset == "dcl-random":  # 99 of 100 labels are wrong: of fewer than these, all or none
        write_batch(files / "cifar-100-python" / "train", [*range(100)] * 6, b"fine_labels")
    args = ["plan", str(folder / "plan"), "--preset", preset, "--scale", SMALLEST, "--seeds", "1"]
    small = () if data in OWN_SIZES else ("--image-size", "32")
    if data in SOUNDS:
        small = ("--seconds", "0.1")
    assert main([*args, *small, "--regimes", *regimes]) == 0
    return Manifest.read(folder / "plan")


def _run(folder: Path, trials: list[Trial]) -> None:
    runs = folder / "runs"
    Manifest("tested", tuple(trials)).write(runs)
    assert main(["run", str(runs), "--device", "cpu"]) == 0
    for trial in trials:
        record = record_of(runs, trial)
        assert record["status"] == "done"
        assert len(record["epochs"]) == 2
    assert main(["report", str(runs)]) == 0


def test_every_preset_has_its_quick_case() -> None:
    assert {*QUICK, *ELSEWHERE} == {*PRESETS}


@pytest.mark.parametrize("preset", QUICK)
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    model, data, regime = QUICK[preset]
    planned = _plan(tmp_path, monkeypatch, preset, data, (regime,))
    trial = next(trial for trial in planned if (trial.model, trial.data) == (model, data))
    _run(tmp_path, [replace(trial, model=SMALLER.get(model, model))])


@pytest.mark.presets
@pytest.mark.parametrize(("case", "regimes"), _cases().items(), ids=" ".join)
def test_every_model_runs_at_its_full_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str], regimes: tuple[str, ...]
) -> None:
    """With one trial of each regime."""
    preset, model, data = case
    if MODELS[model].pretrained is not None and model != "minilm":
        pytest.skip("its weights are downloaded")
    planned = _plan(tmp_path, monkeypatch, preset, data, regimes)
    chosen = {trial.regime: trial for trial in planned if (trial.model, trial.data) == (model, data)}
    _run(tmp_path, [*chosen.values()])
