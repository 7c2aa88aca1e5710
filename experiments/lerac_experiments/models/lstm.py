"""The recurrent network for text of the LeRaC paper."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lerac_experiments.data.source import Parts, TextEncoding
from lerac_experiments.models.shapes import head
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.settings import Settings
from lerac_fast.cbs.sites import Tokens, Where


class LstmClassifier(nn.Module):
    """An embedding, two LSTM layers, and two dense layers on ReLU of the output at the last token.

    The LSTM layers are modules of their own, so that each is a layer to LeRaC and its output a site of CBS. Padding has
    no influence.

    Args:
        vocabulary: the number of tokens, of which 0 is padding.
        embedding, hidden: the numbers of components.

    Shapes: input_ids and attention_mask (1 for tokens, 0 for padding, at the end), int64 [B, T]
    -> logits [B, classes], or values [B].

    Source: Croitoru et al., section 4.2.
    """

    def __init__(self, vocabulary: int, embedding: int, hidden: int, head: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=0)
        self.lstm1 = nn.LSTM(embedding, hidden, batch_first=True)
        self.lstm2 = nn.LSTM(hidden, hidden, batch_first=True)
        self.dense = nn.Linear(hidden, hidden)
        self.head = head

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        lengths = inputs["attention_mask"].sum(1).clamp(min=1)  # a text without a known word counts as one of padding
        embedded = self.embedding(inputs["input_ids"])
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed, _ = self.lstm1(packed)
        packed, _ = self.lstm2(packed)
        # Not the state that the layer returns beside its output, as that is not smoothed.
        output, _ = pad_packed_sequence(packed, batch_first=True)
        last = output.take_along_dim((lengths - 1)[:, None, None], 1).squeeze(1)
        logits: Tensor = self.head(F.relu(self.dense(F.relu(last))))
        return logits


def _lstm(parts: Parts, embedding: int, hidden: int) -> nn.Module:
    assert parts.vocabulary is not None
    return LstmClassifier(parts.vocabulary, embedding, hidden, head(hidden, parts))


SMOOTHING: Where = {r"lstm\d": Tokens()}
"""The output of each LSTM layer, along time."""

# Of Table 1: batch 256-512, epochs 25-70, k 3-4. It gives no weight decay; 1e-2 is AdamW's own.
LSTM = ModelSpec(
    "lstm",
    "LSTM",
    ("text",),
    lambda parts, _: _lstm(parts, embedding=128, hidden=256),
    Settings("AdamW", lr=1e-3, min_lr=1e-7, batch_size=256, epochs=47, lerac_epochs=3, cbs_every=2, weight_decay=1e-2),
    SMOOTHING,
    encoding=TextEncoding("words", 200),
)

# This library's, for short trainings on a CPU.
LSTM_SMALL = ModelSpec(
    "lstm-small",
    "LSTM, small",
    ("text",),
    lambda parts, _: _lstm(parts, embedding=64, hidden=64),
    Settings("AdamW", lr=1e-3, min_lr=1e-7, batch_size=64, epochs=15, lerac_epochs=2, cbs_every=1, weight_decay=1e-2),
    SMOOTHING,
    encoding=TextEncoding("words", 64),
)
