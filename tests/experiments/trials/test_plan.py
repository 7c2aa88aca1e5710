"""Planning: combinations, presets, and what is refused."""

from collections import Counter
from pathlib import Path

import pytest

from lerac_fast.experiments.cli import main
from lerac_fast.experiments.models import MODELS
from lerac_fast.experiments.regimes import REGIMES
from lerac_fast.experiments.trials.manifest import FILE, Manifest
from lerac_fast.experiments.trials.plan import check
from lerac_fast.experiments.trials.presets import PRESETS

TWO = ("--models", "resnet-small", "--data", "digits")


def test_every_combination_is_planned(tmp_path: Path) -> None:
    args = ["plan", str(tmp_path), "--models", "resnet-small", "lenet", "--data", "digits", "fashion-mnist"]
    assert main([*args, "--seeds", "3", "--epochs", "4", "--label-noise", "0.2"]) == 0
    manifest = Manifest.read(tmp_path)
    assert len(manifest) == 2 * 2 * 2 * 3
    assert Counter(trial.regime for trial in manifest) == {"conventional": 12, "lerac": 12}
    assert {trial.settings.epochs for trial in manifest} == {4}
    assert {trial.protocol.label_noise for trial in manifest} == {0.2}
    assert [trial.seed for trial in manifest] == sorted(trial.seed for trial in manifest), "first rows come first"


def test_more_seeds_are_added(tmp_path: Path) -> None:
    assert main(["plan", str(tmp_path), *TWO, "--seeds", "2"]) == 0
    assert main(["plan", str(tmp_path), *TWO, "--seeds", "3"]) == 0
    assert len(Manifest.read(tmp_path)) == 6


@pytest.mark.parametrize(
    ("preset", "trials", "models"),
    [
        ("table2", 4 * 3 * 3 * 5, {"resnet18", "wide-resnet50", "cvt13", "cvt13-pretrained"}),
        ("table3", 2 * 3 * 3 * 5, {"bert-large", "lstm"}),
        ("table4", 2 * 2 * 3 * 5, {"septr", "densenet121"}),
        ("table5", 3 * 5 * 5, {"cvt13"}),
        ("dcl-table1", 2 * 3 * 3, {"wrn-28-10", "resnet18"}),
        ("dcl-table2", 3 * 2 * 3 * 3, {"wrn-28-10"}),
        ("small", 29 * 5, {"resnet-small", "lstm-small", "minilm", "septr-small"}),
    ],
)
def test_presets(tmp_path: Path, preset: str, trials: int, models: set[str]) -> None:
    assert main(["plan", str(tmp_path), "--preset", preset]) == 0
    manifest = Manifest.read(tmp_path)
    assert len(manifest) == trials
    assert {trial.model for trial in manifest} == models
    for trial in manifest:
        check(trial)


def test_presets_keep_to_table_1() -> None:
    """Croitoru et al.: the rates, batches and optimizers."""
    for preset in ("table2", "table3", "table4", "table5"):
        for trial in PRESETS[preset]():
            assert trial.settings == MODELS[trial.model].settings
    of = {
        name: MODELS[name].settings for name in ("resnet18", "cvt13", "cvt13-pretrained", "bert-large", "lstm", "septr")
    }
    assert {name: (s.optimizer, s.lr, s.min_lr) for name, s in of.items()} == {
        "resnet18": ("SGD", 1e-1, 1e-8),
        "cvt13": ("Adamax", 2e-3, 2e-8),
        "cvt13-pretrained": ("Adamax", 5e-4, 5e-10),
        "bert-large": ("Adamax", 5e-5, 5e-8),
        "lstm": ("AdamW", 1e-3, 1e-7),
        "septr": ("Adam", 1e-4, 1e-8),
    }
    assert [of[name].batch_size for name in ("resnet18", "bert-large", "septr")] == [64, 10, 2]


def test_presets_of_data_parameters_train_as_their_paper() -> None:
    """Zagoruyko and Komodakis for CIFAR-100, torch's example for ImageNet, and the authors' code for wrong labels."""
    epochs_of_steps = {
        (trial.model, trial.data, trial.settings.epochs): [
            round(share * trial.settings.epochs, 6) for share in trial.protocol.milestones
        ]
        for preset in ("dcl-table1", "dcl-table2")
        for trial in PRESETS[preset]()
    }
    assert epochs_of_steps == {
        ("wrn-28-10", "cifar100", 200): [60, 120, 160],
        ("resnet18", "imagenet", 100): [30, 60, 90],
        ("wrn-28-10", "cifar10", 84): [80],
        ("wrn-28-10", "cifar100", 84): [80],
    }
    protocols = [trial.protocol for preset in ("dcl-table1", "dcl-table2") for trial in PRESETS[preset]()]
    assert all(protocol.augment_images for protocol in protocols)
    assert {protocol.step_factor for protocol in protocols if protocol.nesterov} == {0.2}
    assert not any(trial.protocol.augment_images for trial in PRESETS["table2"]())


def test_an_option_at_its_usual_value_takes_the_place_of_the_presets(tmp_path: Path) -> None:
    args = ["plan", str(tmp_path), "--preset", "dcl-table1", "--no-augment-images", "--step-factor", "0.1"]
    assert main([*args, "--stop-patience", "15", "--optimizer", "AdamW", "--no-nesterov"]) == 0
    protocols = {trial.protocol for trial in Manifest.read(tmp_path)}
    assert {(each.augment_images, each.step_factor, each.stop_patience) for each in protocols} == {(False, 0.1, 15)}
    assert {each.schedule for each in protocols} == {"steps"}
    assert {trial.settings.optimizer for trial in Manifest.read(tmp_path)} == {"AdamW"}


def test_what_is_unusual_about_a_plan_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(tmp_path / "usual"), *TWO]) == 0
    assert "stop-patience" not in capsys.readouterr().out
    assert main(["plan", str(tmp_path / "given"), *TWO, "--sigma-bounds", "0.05", "20", "--stop-patience", "None"]) == 0
    assert "stop-patience: None; sigma-bounds: 0.05 20" in " ".join(capsys.readouterr().out.split())
    assert main(["plan", str(tmp_path / "noise"), "--preset", "dcl-table2"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "schedule: steps; milestones: 0.9524; stop-patience: None; label-noise: 0.2 or 0.4 or 0.8;" in printed
    assert "noise-free: False or True" in printed


def test_presets_can_be_shortened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["plan", str(tmp_path), "--preset", "table5", "--epochs", "2", "--train-examples", "50", "--seeds", "1"]
    assert main([*args, "--regimes", "lerac", "luck"]) == 1
    assert "the regime of table5 'luck' is unknown: choose one of conventional, cbs," in capsys.readouterr().err
    assert main([*args, "--regimes", "lerac", "cbs"]) == 0
    assert len(Manifest.read(tmp_path)) == 3 * 2
    assert {trial.settings.epochs for trial in Manifest.read(tmp_path)} == {2}
    assert {trial.protocol.train_examples for trial in Manifest.read(tmp_path)} == {50}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--models", "resnet99", "--data", "digits"), "model 'resnet99' is unknown: choose one of resnet18,"),
        (("--models", "lenet", "--data", "mnist"), "data 'mnist' is unknown"),
        ((*TWO, "--regimes", "luck"), "regime 'luck' is unknown: choose one of conventional,"),
        (("--models", "lstm", "--data", "digits"), "lstm takes text data, and digits is image"),
        (("--preset", "table9"), "preset 'table9' is unknown"),
        ((*TWO, "--epochs", "0"), "epochs must be at least 1, got 0"),
        ((*TWO, "--lr", "nan"), "lr=nan"),
        ((*TWO, "--min-lr", "0.5"), "min_lr=0.5 and lr=0.1"),
        ((*TWO, "--label-noise", "1"), "label_noise must be 0 or more and below 1, got 1"),
        ((*TWO, "--stop-patience", "0"), "stop_patience must be at least 1, got 0"),
        ((*TWO, "--decay", "1.5"), "decay must be above 0 and at most 1, got 1.5"),
        ((*TWO, "--cbs-every", "0"), "cbs_every must be above 0, got 0"),
        ((*TWO, "--schedule", "steps", "--milestones", "0.5", "30"), "milestones must be above 0 and below 1"),
        (("--models", "ssd", "--data", "bccd", "--regimes", "lerac-snr"), "bccd: images of various sizes"),
        ((*TWO, "--step-factor", "0.2"), "milestones and step_factor are for schedule=steps, and it is plateau"),
        ((*TWO, "--schedule", "steps", "--step-factor", "2"), "step_factor must be above 0 and at most 1, got 2"),
        (
            ("--models", "septr-small", "--data", "spoken-digits", "--augment-images"),
            "augment_images is for images, and spoken-digits is audio",
        ),
        (("--models", "cvt-small", "--data", "digits", "--nesterov"), "nesterov is for SGD with momentum"),
        ((*TWO, "--nesterov", "--momentum", "0"), "by SGD with momentum 0"),
        ((*TWO, "--noise-free"), "noise_free is for trials with label_noise"),
        ((*TWO, "--train-examples", "5"), "train_examples must be at least 10, got 5"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    assert main(["plan", str(tmp_path), *args]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    "args", [(), ("--models", "lenet"), (*TWO, "--seeds", "0"), ("--preset", "table2", "--models", "lenet")]
)
def test_incomplete_plans_are_refused(tmp_path: Path, args: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", str(tmp_path), *args])


def test_the_catalogue_lists_everything(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in (*MODELS, *REGIMES, *PRESETS, "cifar100", "esc50"):
        assert name in printed
