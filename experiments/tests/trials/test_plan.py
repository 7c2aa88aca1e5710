"""Planning: combinations, presets, and what is refused."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from lerac_experiments.cli import main
from lerac_experiments.models import MODELS
from lerac_experiments.plans.check import RANGES, check
from lerac_experiments.presets import PRESETS
from lerac_experiments.settings import Protocol, Settings
from lerac_experiments.training.regimes import REGIMES
from lerac_experiments.trials.manifest import FILE, Manifest

FEW = ("conventional", "lerac", "dp-class")
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
        ("small", 30 * 5, {"resnet-small", "septr-small", "yolo-small", "ssd-small"}),
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
    assert main(args) == 1
    assert "LeRaC would not end before the training does: lerac_epochs=3 must be below" in capsys.readouterr().err
    args += ["--lerac-epochs", "0.2"]
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
        ((*TWO, "--lr", "nan"), "lr must be finite and above 0, got nan"),
        ((*TWO, "--lr", "inf"), "lr must be finite and above 0, got inf"),
        ((*TWO, "--momentum", "nan"), "momentum must be finite and at least 0 and below 1, got nan"),
        ((*TWO, "--momentum", "5"), "momentum must be at least 0 and below 1, got 5"),
        ((*TWO, "--lerac-epochs", "inf"), "lerac_epochs must be finite and at least 0, got inf"),
        ((*TWO, "--lerac-epochs", "-1"), "lerac_epochs must be at least 0, got -1"),
        ((*TWO, "--sigma", "inf"), "sigma must be finite and at least 0, got inf"),
        ((*TWO, "--weight-decay", "inf"), "weight_decay must be finite and at least 0, got inf"),
        ((*TWO, "--class-lr", "-1"), "class_lr must be at least 0, got -1"),
        ((*TWO, "--instance-lr", "nan"), "instance_lr must be finite and at least 0, got nan"),
        ((*TWO, "--sigma-bounds", "20", "0.05"), "sigma_bounds must be the lowest and the highest temperature"),
        ((*TWO, "--sigma-bounds", "2", "20"), "between them, got 2 20"),
        ((*TWO, "--sigma-bounds", "0", "20"), "sigma_bounds must be above 0, got 0 20"),
        ((*TWO, "--image-size", "0"), "image_size must be at least 1, got 0"),
        ((*TWO, "--warm-up-epochs", "nan"), "warm_up_epochs must be finite and at least 0, got nan"),
        ((*TWO, "--step-factor", "nan", "--schedule", "steps"), "step_factor must be finite and above 0"),
        ((*TWO, "--schedule", "steps", "--milestones", "0.7", "0.3"), "milestones must rise"),
        ((*TWO, "--min-lr", "0.5"), "min_lr=0.5 and lr=0.1"),
        ((*TWO, "--label-noise", "1"), "label_noise must be at least 0 and below 1, got 1"),
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
        (
            (*TWO, "--epochs", "3", "--lerac-epochs", "3"),
            "LeRaC would not end before the training does: lerac_epochs=3 must be below epochs=3",
        ),
        ((*TWO, "--epochs", "3", "--regimes", "cbs+lerac", "--lerac-epochs", "4"), "says nothing of cbs+lerac"),
        (
            (*TWO, "--epochs", "3", "--regimes", "warm-up+cosine", "--warm-up-epochs", "5"),
            "warm-up would not end before the training does: warm_up_epochs=5 must be below epochs=3",
        ),
        (
            ("--models", "resnet-small", "--data", "utkface", "--label-noise", "0.4"),
            "label_noise is for classification, and utkface is a regression",
        ),
        (
            ("--models", "resnet-small", "--data", "utkface", "--regimes", "dp-class"),
            "dp-class divides logits by temperatures, and utkface is a regression",
        ),
        (
            ("--models", "septr-small", "--data", "esc50", "--regimes", "lerac", "dp-class", "--mix-up"),
            "dp-class cannot train on mixed examples",
        ),
        ((*TWO, "--seconds", "1"), "seconds is for recordings, and digits is image"),
        ((*TWO, "--mosaic"), "mosaic is for detection, and digits is image"),
        (
            ("--models", "yolo-small", "--data", "bccd", "--regimes", "dp-instance"),
            "dp-instance divides the logits of classes that exclude each other, and yolo-small judges each by itself",
        ),
        (
            ("--models", "resnet-small", "--data", "utkface", "--regimes", "label-similarity"),
            "label-similarity is for classification, and utkface is a regression",
        ),
        ((*TWO, "--label-epsilon", "1"), "label_epsilon must be above 0 and below 1, got 1"),
        ((*TWO, "--class-similarity", "none.csv"), "class_similarity=none.csv is no file"),
        (("--models", "minilm", "--data", "rte", "--initializer", "he"), "initializer=he is for random weights"),
        *(
            (("--models", model, "--data", "digits", "--initializer", "he"), "initializer=he is for random weights")
            for model in (
                "timm:resnet10t,pretrained",
                "timm:resnet10t,checkpoint_path=F",
                "torchvision:resnet18,pretrained",
            )
        ),
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


def test_every_number_has_a_range() -> None:
    """So that one that is added is checked, too."""

    def is_number(kind: Any) -> bool:
        return kind in (int, float) or any(is_number(part) for part in get_args(kind))

    options = {**get_type_hints(Settings), **get_type_hints(Protocol)}
    assert set(RANGES) == {name for name, kind in options.items() if is_number(kind)}


def test_what_is_compared_is_augmented_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Mixed examples have no temperatures: where one regime has these, no regime on that data mixes."""
    args = ["--models", "lenet", "--data", "esc50", "digits", "--seeds", "1", "--regimes", "conventional"]
    assert main(["plan", str(tmp_path / "all"), *args, "lerac", "dp-class"]) == 0
    assert "esc50: mix-up is off for every regime" in " ".join(capsys.readouterr().out.split())
    mixed = {(trial.data, trial.regime): trial.protocol.mix_up for trial in Manifest.read(tmp_path / "all")}
    assert mixed == {(data, of): data == "digits" for data in ("esc50", "digits") for of in REGIMES if of in FEW}
    assert main(["plan", str(tmp_path / "without"), *args, "lerac"]) == 0
    assert "mix-up" not in capsys.readouterr().out
    assert all(trial.protocol.mix_up for trial in Manifest.read(tmp_path / "without"))
    assert main(["plan", str(tmp_path / "no"), *args, "dp-class", "--no-augment"]) == 0
    assert all(trial.protocol.mix_up for trial in Manifest.read(tmp_path / "no")), "nothing is mixed then"


def test_names_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "[" / "red] [bold]x[" / "bold]"
    assert main(["plan", str(folder), *TWO]) == 0
    printed = capsys.readouterr().out
    assert "bold]: 10 trials" in printed
    assert f"`lerac-fast run {folder}` runs them." in printed


def test_smoothing_that_outlasts_the_training_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is planned: the paper has such trainings, of BERT say."""
    assert main(["plan", str(tmp_path / "table3"), "--preset", "table3"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "bert-large, cbs: CBS lasts 17 of at most 16 epochs, by cbs_every=1" in printed
    assert "lstm, cbs" not in printed
    assert main(["plan", str(tmp_path / "ever"), *TWO, "--regimes", "cbs", "--decay", "1"]) == 0
    assert "resnet-small, cbs: CBS lasts inf of at most 15 epochs" in " ".join(capsys.readouterr().out.split())


def test_the_small_preset_plans_the_trials_of_the_records() -> None:
    """Of which those on data of one's own are planned by commands."""
    lines = (Path(__file__).parents[3] / "docs/results/small/records.jsonl").read_text().splitlines()
    trials = [json.loads(line)["trial"] for line in lines]
    built_in = sorted(trial["id"] for trial in trials if ":" not in trial["data"])
    assert built_in == sorted(trial.id for trial in PRESETS["small"]())
    assert len(trials) - len(built_in) == 9 * 5


def test_the_catalogue_lists_everything(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in (*MODELS, *REGIMES, *PRESETS, "cifar100", "esc50"):
        assert name in printed
