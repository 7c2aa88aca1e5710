"""The recurrent network: padding has no influence, smoothing or not."""

import pytest
import torch
from torch.nn.functional import pad

from experiments.tests.models.samples import parts_of, text
from lerac_experiments.models import MODELS
from lerac_experiments.models.lstm import LstmClassifier
from lerac_fast import CBS


def _model() -> LstmClassifier:
    torch.manual_seed(0)
    model = MODELS["lstm-small"].build(parts_of(text()), None)
    assert isinstance(model, LstmClassifier)
    return model


@pytest.mark.parametrize("smoothed", [False, True])
def test_padding_has_no_influence(smoothed: bool) -> None:
    model, inputs = _model(), text((9, 5, 1))
    if smoothed:
        smoothing = CBS(model, where=MODELS["lstm-small"].smoothing)
        assert smoothing.sites == ("lstm1", "lstm2")
    logits = model(inputs)
    torch.testing.assert_close(model({name: pad(tensor, (0, 4)) for name, tensor in inputs.items()}), logits)
    alone = {name: tensor[1:2, :5] for name, tensor in inputs.items()}
    torch.testing.assert_close(model(alone), logits[1:2])


def test_reads_the_last_token() -> None:
    """Without smoothing, the output there is the state that the layers end in."""
    model, inputs = _model(), text((7,), 7)
    _, (state, _) = model.lstm2(model.lstm1(model.embedding(inputs["input_ids"]))[0])
    expected = model.head(model.dense(state[0].relu()).relu())
    torch.testing.assert_close(model(inputs), expected)


def test_an_empty_text_is_one_token_of_padding() -> None:
    assert _model()(text((3, 0), 3)).isfinite().all()
