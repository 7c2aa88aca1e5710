"""Vectors of names, by the pre-trained MiniLM."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lerac_experiments.models.bert import MINILM
from lerac_experiments.models.weights import quiet_loading


def embed_names(names: Sequence[str]) -> Tensor:
    """The mean of the tokens of each name, float32 [N, 384].

    Raises:
        Unavailable: the weights are not on this machine, and cannot be downloaded.
    """
    assert MINILM.pretrained is not None
    folder = MINILM.pretrained()
    from transformers import BertModel, BertTokenizer  # takes long to import

    with quiet_loading(), torch.random.fork_rng(devices=()):
        model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
        tokenizer = BertTokenizer.from_pretrained(folder)
    spoken = [name.replace("_", " ").lower() for name in names]
    tokens = tokenizer(spoken, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(2)
    mean: Tensor = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
    return mean
