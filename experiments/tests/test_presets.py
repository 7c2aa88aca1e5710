"""Every preset runs from its plan to its report, at the smallest scale, on files in the formats of its data sets.

What takes seconds runs with the other tests; all models at their full size, by `make test-presets`.
"""

from pathlib import Path

import pytest

from experiments.tests.data.test_cifar import write_batch
from experiments.tests.test_every_data_set import WRITE
from experiments.tests.trials.helpers import record_of
from lerac_experiments.cli import main
from lerac_experiments.models import MODELS
from lerac_experiments.presets import PRESETS
from lerac_experiments.trials.manifest import Manifest

SMALLEST = "1e-6"
"""A scale that leaves two epochs of ten examples."""

QUICK = {
    ("lerac-ijcv", "resnet18", "utkface"): ("lerac",),
    ("review", "resnet18", "cifar10"): ("efficient-train",),
}
"""What runs with the other tests: of a preset, a model and a data set, these regimes."""

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


def _run(folder: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str], regimes: tuple[str, ...]) -> None:
    preset, _, data = case
    files = folder / "data"
    files.mkdir()
    monkeypatch.setenv("LERAC_FAST_DATA", str(files))
    WRITE[data](files)
    if preset == "dcl-random":  # 99 of 100 labels are wrong: of fewer than these, all or none
        write_batch(files / "cifar-100-python" / "train", [*range(100)] * 6, b"fine_labels")
    args = ["plan", str(folder / "runs"), "--preset", preset, "--scale", SMALLEST, "--seeds", "1"]
    small = () if data in OWN_SIZES else ("--image-size", "32")
    if data in SOUNDS:
        small = ("--seconds", "0.1")
    assert main([*args, *small, "--regimes", *regimes]) == 0
    chosen = {trial.regime: trial for trial in Manifest.read(folder / "runs") if (trial.model, trial.data) == case[1:]}
    ids = [trial.id for trial in chosen.values()]
    assert main(["run", str(folder / "runs"), "--device", "cpu", "--trials", *ids]) == 0
    for trial in chosen.values():
        record = record_of(folder / "runs", trial)
        assert record["status"] == "done"
        assert len(record["epochs"]) == 2


@pytest.mark.parametrize(("case", "regimes"), QUICK.items(), ids=" ".join)
def test_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str], regimes: tuple[str, ...]
) -> None:
    _run(tmp_path, monkeypatch, case, regimes)


@pytest.mark.presets
@pytest.mark.parametrize(("case", "regimes"), _cases().items(), ids=" ".join)
def test_every_model_runs_at_its_full_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str], regimes: tuple[str, ...]
) -> None:
    """With one trial of each regime."""
    _, model, _ = case
    if MODELS[model].pretrained is not None and model != "minilm":
        pytest.skip("its weights are downloaded")
    _run(tmp_path, monkeypatch, case, regimes)
