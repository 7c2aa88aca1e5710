"""The command `lerac-fast snr` on a registry of its own: what it writes, and its refusals."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.tests.data.test_cifar import write_cifar100
from lerac_experiments.commands.snr import LayerMeasure, Snr, picture
from lerac_experiments.data import registry
from lerac_experiments.data.examples import TensorExamples
from lerac_experiments.data.source import DataSet, Parts, Request
from lerac_experiments.errors import ExperimentError
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.settings import Settings
from lerac_fast.lerac.snr import LayerSignal, decay_rate, signal_to_noise

SETTINGS = Settings("SGD", lr=0.1, min_lr=1e-8, batch_size=8, epochs=1, lerac_epochs=1)


def build(parts: Parts, pretrained: Path | None) -> nn.Module:
    assert pretrained is None
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, parts.classes))


def load(request: Request) -> Parts:
    generator = torch.Generator().manual_seed(0)
    count = min(request.train_examples or 40, 40)
    examples = TensorExamples(torch.rand(count, 3, 4, 4, generator=generator), torch.zeros(count, dtype=torch.long))
    return Parts("classification", 3, examples, examples, examples, source="made up")


def load_few(_: Request) -> Parts:
    few = TensorExamples(torch.rand(3, 3, 4, 4), torch.zeros(3, dtype=torch.long))
    return Parts("classification", 3, few, few, few, source="three images")


@pytest.fixture(autouse=True)
def _registries(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelSpec("tiny", "Tiny", ("image",), build, SETTINGS)
    sets = [
        DataSet("noise", "Noise", "image", load),
        DataSet("few", "Few", "image", load_few),
        DataSet("words", "Words", "text", load),
        DataSet("boxes", "Boxes", "detection", load),
    ]
    monkeypatch.setattr("lerac_experiments.models.registry.MODELS", {"tiny": model})
    monkeypatch.setattr(registry, "DATA", {data.name: data for data in sets})


def test_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Snr("tiny", "noise", examples=12, seeds=2, output=tmp_path / "new" / "folder").run()
    record = json.loads((tmp_path / "new" / "folder" / "snr.json").read_text())
    inputs = load(Request()).train.__getitems__(list(range(12))).inputs
    runs = []
    for seed in range(2):
        torch.manual_seed(seed)
        runs.append(signal_to_noise(build(load(Request()), None), inputs, seed=seed))
    for layer, (one, other) in zip(record["layers"], zip(*runs, strict=True), strict=True):
        assert (layer["name"], layer["depth"]) == (one.name, one.depth)
        assert layer["snr"] == pytest.approx((one.snr + other.snr) / 2)
        assert layer["snr_deviation"] == pytest.approx(abs(one.snr - other.snr) / 2**0.5)
        assert layer["entropy"] == pytest.approx((one.entropy + other.entropy) / 2)
    means = [LayerSignal(x["name"], x["depth"], x["snr"], x["entropy"]) for x in record["layers"]]
    assert record["decay"] == decay_rate(means)._asdict()
    assert len(record["decays"]) == 2
    assert record["options"] == {"model": "tiny", "data": "noise", "examples": 12, "seeds": 2}
    assert record["source"] == "made up"
    assert "versions" in record["environment"]
    assert (tmp_path / "new" / "folder" / "snr.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "signal / noise" in printed
    assert "r² =" in printed


def test_fewer_examples_than_asked_for_are_all_used(tmp_path: Path) -> None:
    Snr("tiny", "noise", examples=1000, seeds=1, output=tmp_path).run()
    assert json.loads((tmp_path / "snr.json").read_text())["options"]["examples"] == 40


def test_the_picture_shows_both_measures_and_the_fit() -> None:
    layers = [LayerMeasure(f"{d}", d, 8.0 / d, 9.0, 3.0, 0.1) for d in (1, 2, 3)] + [LayerMeasure("4", 4, 0, 0, 0, 0)]
    decay = decay_rate([LayerSignal(x.name, x.depth, x.snr, x.entropy) for x in layers])
    figure = picture(layers, decay, "A title")
    left, right = figure.axes
    assert left.get_yscale() == "log"
    assert f"r² = {decay.r_squared:.2f}" in left.get_legend().get_texts()[0].get_text()
    assert (left.get_ylabel(), right.get_ylabel()) == ("signal-to-noise ratio", "entropy of a unit, in bits")
    figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ("tinny", "noise", "model 'tinny' is unknown: choose one of tiny"),
        ("tiny", "noize", "data 'noize' is unknown: choose one of noise, few, words, boxes"),
        ("tiny", "words", "tiny takes image data, and words is text"),
        ("tiny", "boxes", "boxes cannot be measured"),
        ("tiny", "few", "three images: 3 training examples, and it takes 4"),
    ],
)
def test_refusals(model: str, data: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=message):
        Snr(model, data, output=tmp_path).run()


@pytest.mark.parametrize(("options", "message"), [({"examples": 3}, "examples must be"), ({"seeds": 0}, "seeds must")])
def test_bad_options_are_named(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Snr("tiny", "noise", **options)


def test_lenet_on_cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the authors show in the review: signal to noise, and entropy, of every layer."""
    monkeypatch.undo()
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    write_cifar100(tmp_path)
    Snr("lenet", "cifar100", examples=16, seeds=1, output=tmp_path / "snr").run()
    layers = json.loads((tmp_path / "snr" / "snr.json").read_text())["layers"]
    assert [layer["depth"] for layer in layers] == [1, 2, 3, 4, 5]
    assert all(layer["snr"] >= 0 and layer["entropy"] > 0 for layer in layers), "these images are noise themselves"
    assert json.loads((tmp_path / "snr" / "snr.json").read_text())["entropy_decay"]["rate"] > 0
    assert (tmp_path / "snr" / "snr.png").is_file()
