"""CvT: tokens of small images, weights from a folder, and the class token."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.tests.models.samples import parts_of
from lerac_experiments.models import MODELS
from lerac_experiments.models.cvt import CvtClassifier


def _model(name: str, images: Tensor, folder: Path | None = None) -> CvtClassifier:
    model = MODELS[name].build(parts_of(images), folder).eval()
    assert isinstance(model, CvtClassifier)
    return model


@pytest.mark.parametrize("name", ["cvt13", "cvt-small"])
def test_tokens_of_small_images(name: str) -> None:
    images = torch.zeros(2, 3, 32, 32)
    with torch.device("meta"):
        states = _model(name, images).cvt.cvt(images.to("meta"), output_hidden_states=True).hidden_states
    assert [state.shape[2] * state.shape[3] for state in states] == [256, 64, 16]


def test_the_class_token_belongs_to_the_first_block_of_its_stage() -> None:
    images = torch.randn(2, 3, 8, 8)
    model = _model("cvt-small", images)
    token = model.cvt.cvt.encoder.stages[2].cls_token
    owner = next(g for g in MODELS["cvt-small"].groups(model, images) if any(p is token for p in g["params"]))
    assert owner["name"] == "cvt.cvt.encoder.stages.2.layers.0"


def test_weights_from_a_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = torch.randn(2, 1, 32, 32)
    network = _model("cvt-small", torch.randn(2, 3, 32, 32)).cvt
    saved = type(network)(network.config)  # with the head that the configuration tells of
    saved.save_pretrained(tmp_path)
    capfd.readouterr()
    model = _model("cvt13-pretrained", images, tmp_path)
    assert capfd.readouterr() == ("", "")
    loaded, expected = model.cvt.state_dict(), saved.state_dict()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected if not key.startswith("classifier"))
    assert model(images).shape == (2, 3)  # one channel, where the weights are for three
