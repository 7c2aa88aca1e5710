"""Every model: its layers, where it is smoothed, and that it trains as the paper's regimes do it."""

import re
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.tests.models.samples import first_logits, parts_of, sample_parts, text
from lerac_experiments.data.examples import Batch
from lerac_experiments.data.source import Parts
from lerac_experiments.models import MODELS, ModelSpec
from lerac_experiments.models.bert import BERT_LARGE_SIZES, bert_classifier
from lerac_fast import CBS, LeRaC, optim
from tests.cbs.smoothing import Calls, smoothing_calls

SPECS = {
    **{name: spec for name, spec in MODELS.items() if "table" not in spec.kinds},  # see test_mlp
    # Of full width; to train all of its 24 blocks would take 5 GB.
    "bert-large": replace(
        MODELS["bert-large"],
        build=lambda parts, _: bert_classifier(parts, None, {**BERT_LARGE_SIZES, "num_hidden_layers": 2}),
    ),
}
SMALL = [name for name in MODELS if "small" in name or name in ("lenet", "lstm", "wrn-16-2", "minilm")]

SHAPES = {"septr-small": (1, 32, 24)}
"""Of spectrograms, where they are averaged over patches."""


class Case(NamedTuple):
    spec: ModelSpec
    model: nn.Module
    parts: Parts
    batch: Batch


@pytest.fixture(scope="module", params=SPECS)
def case(request: pytest.FixtureRequest) -> Case:
    """A model and two examples; the tests of one model follow each other, and training is the last."""
    spec = SPECS[request.param]
    torch.manual_seed(0)
    parts = sample_parts(spec.kinds[0])
    if spec.name in SHAPES:
        parts = parts_of(torch.randn(2, *SHAPES[spec.name]))
    large = spec.name in ("ssd", "yolo")  # one image of 300x300 pixels or more takes long enough
    examples = [0] if large else [0, 1]
    return Case(spec, spec.build(parts, None), parts, parts.train.__getitems__(examples))


def _loss(case: Case) -> Tensor:
    if case.parts.task == "detection":
        losses: dict[str, Tensor] = case.model(*case.batch[:2])
        return torch.stack(list(losses.values())).sum()
    assert isinstance(case.batch.targets, Tensor)
    return F.cross_entropy(case.model(case.batch.inputs), case.batch.targets)


def test_layers(case: Case) -> None:
    groups = case.spec.groups(case.model, case.batch.inputs)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(map(id, case.model.parameters()))
    depths = [group["depth"] for group in groups]
    assert depths == sorted(depths)
    assert set(depths) == set(range(1, max(depths) + 1))
    assert re.search(r"\b(head|fc|classifier)\b", groups[-1]["name"])


def test_smoothing(case: Case) -> None:
    """At all sites, in training and in evaluation."""

    def evaluate() -> Tensor:
        with torch.no_grad():
            return first_logits(case.model.eval()(case.batch.inputs))

    plain = evaluate()
    with CBS(case.model, sigma=1.0, where=case.spec.smoothing) as smoothing:
        with Calls() as calls:
            smoothed = evaluate()
        assert len(calls.names) == len(smoothing.sites) > 0
        assert plain.shape != smoothed.shape or not torch.allclose(plain, smoothed, rtol=1e-4, atol=1e-6)
        case.model.train()
        with torch.no_grad():
            assert len(smoothing_calls(lambda: _loss(case))) == len(smoothing.sites)


def test_training(case: Case) -> None:
    settings, model = case.spec.settings, case.model.train()
    groups = case.spec.groups(model, case.batch.inputs)
    arguments = {"momentum": settings.momentum} if settings.optimizer == "SGD" else {}
    optimizer_class = getattr(optim, settings.optimizer)
    optimizer = optimizer_class(groups, lr=settings.lr, weight_decay=settings.weight_decay, **arguments)
    curriculum = LeRaC(optimizer, total_iters=1, min_lr=settings.min_lr)
    smoothing = CBS(model, settings.sigma, settings.decay, int(settings.cbs_every), where=case.spec.smoothing)
    first, last = (next(p for p in optimizer.param_groups[i]["params"] if p.ndim > 1) for i in (0, -1))
    before = [p.detach().clone() for p in (first, last)]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(settings.lr)
    assert optimizer.param_groups[-1]["lr"] == pytest.approx(settings.min_lr)
    with smoothing:
        for _ in range(2):
            loss = _loss(case)
            optimizer.zero_grad()
            loss.backward()
            assert all(p.grad is not None for p in model.parameters())
            optimizer.step()
            curriculum.step()
        smoothing.step()
    assert loss.isfinite()
    assert all(not torch.equal(p, old) for p, old in zip((first, last), before, strict=True))
    assert all(group["lr"] == pytest.approx(settings.lr) for group in optimizer.param_groups)


@pytest.mark.parametrize("name", MODELS)
def test_names_and_encodings(name: str) -> None:
    spec = MODELS[name]
    assert spec.name == name
    assert (spec.encoding is not None) == ("text" in spec.kinds)
    assert spec.settings.min_lr < spec.settings.lr


def _state(name: str, seed: int, parts: Parts) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return MODELS[name].build(parts, None).state_dict()


@pytest.mark.parametrize("name", SMALL)
def test_the_seed_decides_the_weights(name: str) -> None:
    parts = sample_parts(MODELS[name].kinds[0])
    if name in SHAPES:
        parts = parts_of(torch.randn(2, *SHAPES[name]))
    first, again, other = (_state(name, seed, parts) for seed in (1, 1, 2))
    assert all(torch.equal(tensor, again[key]) for key, tensor in first.items())
    assert any(not torch.equal(tensor, other[key]) for key, tensor in first.items())


@pytest.mark.parametrize("name", [name for name in SMALL if "detection" not in MODELS[name].kinds])
def test_regression_gives_one_value_per_example(name: str) -> None:
    spec = MODELS[name]
    inputs = text() if "text" in spec.kinds else torch.randn(2, 1, 32, 24)
    model = spec.build(parts_of(inputs, "regression"), None)
    values = model(inputs)
    assert values.shape == (2,)
    F.mse_loss(values, torch.rand(2)).backward()


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 48), (3, 112, 96)])
@pytest.mark.parametrize("name", [name for name in MODELS if "image" in MODELS[name].kinds])
def test_images_of_all_sizes(name: str, shape: tuple[int, ...]) -> None:
    """On the meta device, which computes shapes alone."""
    parts = parts_of(torch.zeros(2, *shape))
    with torch.device("meta"):
        model = MODELS[name].build(parts, None)
        assert model(torch.empty(2, *shape)).shape == (2, parts.classes)
