"""Evaluation: as many examples at once as in training, and the same numbers however many there are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.tests.models.samples import parts_of, sample_parts, text
from experiments.tests.trials.helpers import digits_trial, outcome, planned, record_of, run
from lerac_experiments.data.examples import Batch
from lerac_experiments.models import MODELS
from lerac_experiments.training import runner
from lerac_experiments.training.distributed import Ranks
from lerac_experiments.training.loading import consecutive, load
from lerac_experiments.training.tasks import TASKS, Classification, Outcome


@pytest.mark.parametrize(("trained", "evaluated"), [(2, 2), (16, 16), (64, 50)])
def test_no_more_is_evaluated_than_trained_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: int, evaluated: int
) -> None:
    """What has the memory to be trained has it to be evaluated."""
    sizes = []
    evaluate = Classification.evaluate

    def watched(task: Classification, model: Callable[[Any], Any], *rest: Any) -> Outcome:
        def watch(inputs: Tensor) -> Any:
            sizes.append(len(inputs))
            return model(inputs)

        return evaluate(task, watch, *rest)

    monkeypatch.setattr(Classification, "evaluate", watched)
    assert run(planned(tmp_path, digits_trial(batch_size=trained, epochs=1))) == 0
    assert max(sizes) == evaluated


def test_a_record_does_not_depend_on_how_many_are_evaluated_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = digits_trial("cbs+lerac")
    outcomes = []
    for size in (3, 256):
        monkeypatch.setattr(runner, "EVALUATION_BATCH", size)
        folder = planned(tmp_path / str(size), trial)
        assert run(folder) == 0
        outcomes.append(outcome(record_of(folder, trial)))
    few, many = outcomes
    for epoch, other in zip(few.pop("epochs"), many.pop("epochs"), strict=True):
        assert epoch == pytest.approx(other, rel=1e-5)
    for results in (few["result"], many["result"]):
        results["test_loss"] = pytest.approx(results["test_loss"], rel=1e-5)
    assert few == many


@pytest.mark.parametrize("name", ["resnet-small", "densenet-small", "cvt-small", "septr-small", "lstm-small", "minilm"])
def test_models_answer_each_example_by_itself(name: str) -> None:
    """Whatever is in the batch beside it: texts are of several lengths, and images of several brightnesses."""
    torch.manual_seed(0)
    spec = MODELS[name]
    lengths = (9, 5, 1, 7, 3)
    shape = (5, 1, 32, 24) if spec.kinds[0] == "audio" else (5, 3, 16, 16)
    inputs = (
        text(lengths) if spec.kinds[0] == "text" else torch.randn(shape) * torch.arange(1.0, 6)[:, None, None, None]
    )
    parts = parts_of(inputs)
    model = spec.build(parts, None).eval()
    outcomes = []
    for size in (1, 2, 5):
        with torch.inference_mode():
            batches = load(parts.test, consecutive(5, size), Ranks(), workers=0)
            outcomes.append(TASKS["classification"].evaluate(model, batches, 5, Ranks()))
    assert [each.loss for each in outcomes] == pytest.approx([outcomes[0].loss] * 3, rel=1e-5)
    assert all(torch.equal(each.correct, outcomes[0].correct) for each in outcomes)


def test_detectors_answer_each_image_by_itself() -> None:
    """Images are of several sizes, and scaled to one."""
    torch.manual_seed(0)
    model = MODELS["ssd-small"].build(sample_parts("detection"), None).eval()
    images = [torch.rand(3, 64 + 9 * i, 80) for i in range(5)]
    with torch.inference_mode():
        truth = [{"boxes": found["boxes"][:2], "labels": found["labels"][:2]} for found in model(images)]
        outcomes = [
            TASKS["detection"].evaluate(
                model,
                (Batch([images[i] for i in ids], [truth[i] for i in ids], torch.tensor(ids)) for ids in batches),
                5,
                Ranks(),
            )
            for batches in (consecutive(5, 1), consecutive(5, 3))
        ]
    assert outcomes[0].metric > 0.0
    assert outcomes[0] == outcomes[1]
