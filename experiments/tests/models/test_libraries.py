"""Models of timm, torchvision and transformers, fitted to data."""

import re
import socket
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import timm
import torch
import torchvision
import transformers
from huggingface_hub import constants
from torch import Tensor, nn

from experiments.tests.models.samples import CLASSES, VOCABULARY, parts_of, sample_parts, text
from lerac_experiments.data.source import Kind
from lerac_experiments.errors import ExperimentError, Unavailable
from lerac_experiments.models.adapters import fit_channels
from lerac_experiments.models.registry import find_model
from lerac_experiments.models.weights import only_what_can_be_reached
from lerac_experiments.training.tasks import TASKS
from lerac_fast import CBS

TINY = "num_hidden_layers=2,hidden_size=16,num_attention_heads=2,intermediate_size=16"


class Case(NamedTuple):
    spec: str
    kind: Kind
    layers: int
    """The least number of depths."""
    first_site: str
    """The first module after which CBS smooths."""


CASES = (
    Case("timm:test_resnet", "image", 5, r"conv1\.0"),
    Case("timm:test_resnet", "audio", 5, r"conv1\.0"),
    Case("timm:test_vit,patch_size=4", "image", 10, r"blocks.0"),
    Case("timm:test_convnext", "image", 10, r"stem\.0"),
    Case("torchvision:squeezenet1_1", "image", 10, r"features.0"),
    Case("torchvision:ssdlite320_mobilenet_v3_large", "detection", 20, r"backbone.features.0.0.0"),
    Case(f"transformers:bert,{TINY}", "text", 6, r"model.bert.encoder.layer.0"),
    Case("transformers:distilbert,n_layers=1,dim=8,n_heads=2,hidden_dim=8", "text", 4, r"model.+layer.0"),
    Case("transformers:gpt2,n_layer=1,n_embd=8,n_head=2", "text", 4, r"model.transformer.h.0"),
    Case(f"transformers:vit,patch_size=4,{TINY}", "image", 4, r"vit.+\.0"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.spec.split(',')[0]}-{case.kind}")
def test_models_fit_the_data(case: Case) -> None:
    spec, parts = find_model(case.spec), sample_parts(case.kind)
    if case.spec in ("torchvision:squeezenet1_1", "timm:test_convnext"):  # which halve the sides several times
        parts = parts_of(torch.randn(2, 1, 32, 32))
    assert case.kind in spec.kinds
    torch.manual_seed(0)
    model = spec.make(parts, None).train()
    batch = parts.train.__getitems__([0, 1])
    groups = spec.groups(model, batch.inputs)
    assert len({group["depth"] for group in groups}) >= case.layers
    with CBS(model, where=spec.sites(model)) as smoothing:
        assert re.fullmatch(case.first_site, smoothing.sites[0])
        task = TASKS[parts.task]
        outputs = task.forward(model, batch)
        if isinstance(outputs, Tensor):
            assert outputs.shape == (2, CLASSES)
        task.loss(outputs, batch).backward()
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_a_regression_gives_a_value_each() -> None:
    parts = parts_of(torch.randn(2, 3, 32, 32), task="regression")
    for spec in ("timm:test_resnet", "torchvision:squeezenet1_1"):
        assert find_model(spec).make(parts, None)(torch.randn(2, 3, 32, 32)).shape == (2,)


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("timm:resnet10", "image", r"timm has no model 'resnet10' \(did you mean resnet10t or"),
        ("timm:test_resnet,foo=3", "image", r"timm:test_resnet,foo=3 could not be built: TypeError: .*'foo'"),
        ("torchvision:resnet19", "image", r"torchvision has no classifier 'resnet19' \(did you mean resnet18"),
        ("torchvision:resnet18", "detection", "torchvision has no detector 'resnet18'"),
        ("transformers:bert", "image", "transformers has no 'bert' that classifies images"),
        ("transformers:vit", "text", "transformers has no 'vit' that classifies texts"),
        (f"transformers:bert,{TINY},layers=3", "text", "BertConfig has no 'layers'"),
        ("transformers:bert,max_length=3", "text", "max_length must be a whole number of tokens, 4 or more, got 3"),
        ("transformers:bert,unit=letters", "text", "unit must be words or wordpiece, got 'letters'"),
        (f"transformers:bert,vocab_size=7,{TINY}", "text", f"it knows 7 tokens, and the texts have {VOCABULARY}"),
        ("timm:test_resnet,a b", "image", "'a b' is no option: write name=value after a comma"),
    ],
)
def test_what_is_wrong_is_said(spec: str, kind: Kind, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        find_model(spec).make(sample_parts(kind), None)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ExperimentError, match="timm:x: timm is not installed: pip install timm"):
        find_model("timm:x").make(sample_parts("image"), None)


def test_pretrained_weights_that_cannot_be_had_are_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", unreachable)
    monkeypatch.setattr(torchvision.models, "get_model", unreachable)
    for spec in ("timm:test_resnet,pretrained", "torchvision:resnet18,pretrained"):
        with pytest.raises(Unavailable, match=r"could not be downloaded \(OSError\). Leave `,pretrained` out"):
            find_model(spec).make(sample_parts("image"), None)
    with pytest.raises(ExperimentError, match="could not be built: OSError: no network"):
        find_model("timm:test_resnet").make(sample_parts("image"), None)


def test_a_configuration_that_cannot_be_had_is_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", _no_names)
    with pytest.raises(Unavailable, match=r"brt is no type of model that transformers knows \(did you mean bert"):
        find_model("transformers:brt").make(sample_parts("text"), None)


def _no_names(*_: Any) -> None:
    raise socket.gaierror("Name or service not known")


def test_the_hub_is_not_waited_for_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for proxies, offline in (({}, True), ({"https": "proxy"}, False)):
        monkeypatch.setattr("lerac_experiments.models.weights.getproxies", lambda found=proxies: found)
        monkeypatch.setattr(socket, "getaddrinfo", _no_names)
        with only_what_can_be_reached():
            assert constants.HF_HUB_OFFLINE is offline
    assert constants.HF_HUB_OFFLINE is False


def test_torchvisions_weights_keep_all_but_the_last_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 1000))
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: made if weights == "DEFAULT" else name)
    before = made[0].weight.detach().clone()
    parts = parts_of(torch.randn(2, 1, 8, 8))
    model = find_model("torchvision:resnet18,pretrained").make(parts, None)
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, CLASSES)
    torch.testing.assert_close(made[0].weight.detach(), before.sum(1, keepdim=True))


def test_channels_that_fit_are_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    before = model[0]
    fit_channels(model, 3)
    assert model[0] is before


def test_pretrained_texts_are_read_with_their_own_vocabulary(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    bert = transformers.BertModel(transformers.BertConfig(vocab_size=60, **sizes))
    bert.save_pretrained(tmp_path)
    spec = find_model(f"transformers:{tmp_path},pretrained,max_length=16")
    assert spec.pretrained is not None
    assert spec.encoding is not None
    assert (spec.pretrained(), spec.encoding.max_length) == (tmp_path, 16)
    model = spec.make(parts_of(text()), spec.pretrained())
    found = model.get_submodule("model.bert.embeddings.word_embeddings").weight
    torch.testing.assert_close(found, bert.embeddings.word_embeddings.weight)
    assert model(text()).shape == (2, CLASSES)
