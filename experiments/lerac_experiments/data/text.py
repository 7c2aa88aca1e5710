"""Texts, or pairs of them, encoded as a model reads them, in batches no longer than their longest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lerac_experiments.data.examples import Examples
from lerac_experiments.data.source import Parts, Request, Task, draw, draw_test, join_notes, size_note
from lerac_experiments.data.tokens import Encoded, WordPieces, Words
from lerac_experiments.errors import ExperimentError


@dataclass(frozen=True)
class Texts:
    """Texts, or pairs of them, and the class of each, by its name.

    Attributes:
        second: of pairs; of single texts, None.
    """

    first: list[str]
    second: list[str] | None
    labels: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "Texts":
        """Those of these numbers, int64 [M], in their order."""
        chosen = indices.tolist()
        first, labels = ([column[i] for i in chosen] for column in (self.first, self.labels))
        return Texts(first, None if self.second is None else [self.second[i] for i in chosen], labels)

    @property
    def all(self) -> list[str]:
        """The texts themselves."""
        return [*self.first, *(self.second or ())]


class TextExamples(Examples):
    """Encoded texts. Batches are padded with 0 to their longest, and have the inputs
    `input_ids` and `attention_mask`, and `token_type_ids` if `segments`: int64 [B, longest]."""

    def __init__(
        self, encoded: list[Encoded], targets: Tensor, segments: bool, decode: Callable[[list[int]], str]
    ) -> None:
        # Flat tensors are shared with worker processes; lists would be copied as their reference counts change.
        self._tokens = torch.tensor([token for one in encoded for token in one.tokens], dtype=torch.int32)
        self._ends = torch.tensor([len(one.tokens) for one in encoded]).cumsum(0)
        self._starts = self._ends - torch.tensor([len(one.tokens) for one in encoded])
        self._seconds = torch.tensor([one.second for one in encoded])
        self._segments = segments
        self._decode = decode
        self.targets = targets

    def inputs_of(self, indices: list[int]) -> dict[str, Tensor]:
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
        return inputs

    def told(self, index: int) -> str:
        """The text as a model reads it."""
        tokens = self._tokens[self._starts[index] : self._ends[index]].tolist()
        return f"{len(tokens)} tokens: {self._decode(tokens)}"


def text_parts(
    training: Texts, test: Texts, request: Request, source: str, note: str, published: tuple[int, int] | None
) -> Parts:
    """Splits texts and encodes them as asked for; vocabularies are of the examples to train with alone. The classes are
    those of the training part, numbered in the order of their names.

    Args:
        published: how many examples to train and to test with there are; None, the split is not the official one.

    Raises:
        ExperimentError: as `encoded_parts`; or there are too few examples or classes, or the test part has others.
    """
    classes = _numbered(training, test, source)
    parts = [training.take(drawn) for drawn in draw(len(training), request)]
    parts.append(test.take(draw_test(len(test), request)))
    targets = [torch.tensor([classes[label] for label in part.labels]) for part in parts]
    sizes = None if published is None else size_note(published, len(training), len(test))
    made = encoded_parts(parts, targets, len(classes), request, source, join_notes(note, sizes))
    return replace(made, class_names=tuple(classes))


def encoded_parts(
    parts: Sequence[Texts], targets: Sequence[Tensor], classes: int, request: Request, source: str, note: str | None
) -> Parts:
    """Texts to train, validate and test with, encoded as asked for; vocabularies are of those to train with alone.

    Args:
        targets: of each part, classes int64 [N], or values float [N].

    Raises:
        ExperimentError: no encoding is asked for, or its vocabulary is damaged.
    """
    encoding, train = request.encoding, parts[0]
    if encoding is None:
        raise ExperimentError("this data is text: choose a model that reads text")
    words = encoding.unit == "words"
    encoder: Words | WordPieces
    if words:
        encoder = Words(train.all, encoding.max_length)
    elif encoding.folder is None:
        encoder = WordPieces.learn(train.all, encoding.max_length)
    else:
        encoder = WordPieces.read(encoding.folder, encoding.max_length)
    of_train, of_validation, of_test = (
        TextExamples(encoder(part.first, part.second), of_part, not words, encoder.decode)
        for part, of_part in zip(parts, targets, strict=True)
    )
    task: Task = "regression" if targets[0].is_floating_point() else "classification"
    return Parts(task, classes, of_train, of_validation, of_test, source, note, encoder.vocabulary)


def _numbered(training: Texts, test: Texts, source: str) -> dict[str, int]:
    """The numbers of the classes."""
    classes = {label: number for number, label in enumerate(sorted(set(training.labels)))}
    if len(classes) < 2:
        raise ExperimentError(f"{source}: all training examples are of one class, {', '.join(classes)!r}")
    others = sorted(set(test.labels) - set(classes))
    if others:
        raise ExperimentError(
            f"{source}: there are test examples, but no training examples, of the class {others[0]!r}"
        )
    return classes
