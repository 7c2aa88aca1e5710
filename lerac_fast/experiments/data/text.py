"""Pairs of texts, encoded as a model reads them, in batches no longer than their longest."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lerac_fast.experiments.data.examples import Batch, Examples
from lerac_fast.experiments.data.source import Parts, Request, draw, draw_test
from lerac_fast.experiments.data.tokens import Encoded, WordPieces, Words
from lerac_fast.experiments.errors import ExperimentError


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts, and the class of each."""

    first: list[str]
    second: list[str]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "Pairs":
        """The pairs of these numbers, int64 [M], in their order."""
        chosen = indices.tolist()
        return Pairs(*([column[i] for i in chosen] for column in (self.first, self.second, self.labels)))


class TextExamples(Examples):
    """Encoded pairs. Batches are padded with 0 to their longest, and have the inputs
    `input_ids` and `attention_mask`, and `token_type_ids` if `segments`: int64 [B, longest]."""

    def __init__(self, encoded: list[Encoded], labels: Tensor, segments: bool) -> None:
        # Flat tensors are shared with worker processes; lists would be copied as their reference counts change.
        self._tokens = torch.tensor([token for one in encoded for token in one.tokens], dtype=torch.int32)
        self._ends = torch.tensor([len(one.tokens) for one in encoded]).cumsum(0)
        self._starts = self._ends - torch.tensor([len(one.tokens) for one in encoded])
        self._seconds = torch.tensor([one.second for one in encoded])
        self._segments = segments
        self.labels: Tensor = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> Batch:
        chosen = torch.tensor(indices)
        starts, ends = self._starts[chosen], self._ends[chosen]
        positions = torch.arange(int((ends - starts).max()))
        present = positions < (ends - starts).unsqueeze(1)
        input_ids = torch.zeros(present.shape, dtype=torch.int64)
        texts = [self._tokens[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        input_ids[present] = torch.cat(texts).long()
        inputs = {"input_ids": input_ids, "attention_mask": present.long()}
        if self._segments:
            inputs["token_type_ids"] = (present & (positions >= self._seconds[chosen].unsqueeze(1))).long()
        return Batch(inputs, self.labels[chosen], chosen)


def text_parts(training: Pairs, test: Pairs, request: Request, source: str, note: str | None) -> Parts:
    """Splits pairs of two classes and encodes them as asked for; vocabularies are of the examples to train with alone.

    Raises:
        ExperimentError: no encoding is asked for, its vocabulary is damaged, or there are too few examples.
    """
    encoding = request.encoding
    if encoding is None:
        raise ExperimentError("this data is text: choose a model that reads text")
    drawn_train, drawn_validation = draw(len(training), request)
    train, validation = training.take(drawn_train), training.take(drawn_validation)
    words = encoding.unit == "words"
    encoder: Words | WordPieces
    if words:
        encoder = Words([*train.first, *train.second], encoding.max_length)
    elif encoding.folder is None:
        encoder = WordPieces.learn([*train.first, *train.second], encoding.max_length)
    else:
        encoder = WordPieces.read(encoding.folder, encoding.max_length)
    encoded = [
        TextExamples(encoder(part.first, part.second), torch.tensor(part.labels), segments=not words)
        for part in (train, validation, test.take(draw_test(len(test), request)))
    ]
    return Parts("classification", 2, encoded[0], encoded[1], encoded[2], source, note, encoder.vocabulary)
