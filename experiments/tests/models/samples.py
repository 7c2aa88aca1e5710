"""Small random data for every kind of model."""

import torch
from torch import Tensor

from lerac_experiments.data.examples import Batch, Examples, TensorExamples
from lerac_experiments.data.source import Kind, Parts, Task

CLASSES = 3
VOCABULARY = 50


class Images(Examples):
    """Images of various sizes with one annotated box each."""

    def __len__(self) -> int:
        return 2

    def __getitems__(self, indices: list[int]) -> Batch:
        images = [torch.rand(3, 64 + 8 * i, 72) for i in indices]
        targets = [{"boxes": torch.tensor([[5.0, 5.0, 40.0, 30.0 + i]]), "labels": torch.tensor([1])} for i in indices]
        return Batch(images, targets, torch.tensor(indices))


def text(lengths: tuple[int, ...] = (9, 5), padded_to: int = 9) -> dict[str, Tensor]:
    """Encoded texts of so many tokens, with zeros behind."""
    mask = (torch.arange(padded_to) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(1, VOCABULARY, mask.shape) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def parts_of(inputs: Tensor | dict[str, Tensor], task: Task = "classification") -> Parts:
    count = len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)
    targets = torch.rand(count) if task == "regression" else torch.arange(count) % CLASSES
    examples = TensorExamples(inputs, targets)
    classes = 1 if task == "regression" else CLASSES
    return Parts(task, classes, examples, examples, examples, "random", vocabulary=VOCABULARY)


def sample_parts(kind: Kind) -> Parts:
    """Two examples, as small as the models take them."""
    if kind == "detection":
        return Parts("detection", 1 + CLASSES, Images(), Images(), Images(), "random")
    if kind == "text":
        return parts_of(text())
    if kind == "table":
        return parts_of(torch.randn(4, 5))
    return parts_of(torch.randn(2, 1, 16, 12) if kind == "audio" else torch.randn(2, 3, 8, 8))


def two_examples(parts: Parts) -> Batch:
    return parts.train.__getitems__([0, 1])


def first_logits(output: object) -> Tensor:
    """Of a model in evaluation mode: its logits, or, of a detector, the scores of all that it detects."""
    if isinstance(output, Tensor):
        return output
    assert isinstance(output, list)
    return torch.cat([image["scores"] for image in output])
