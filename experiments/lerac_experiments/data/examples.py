"""Numbered examples that are loaded a batch at a time."""

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from torch.utils.data import Dataset

Inputs: TypeAlias = Tensor | dict[str, Tensor] | list[Tensor]
"""What a model takes: images or spectrograms [B, C, H, W], encoded text by the names of its tensors, or images of
various sizes."""

Targets: TypeAlias = Tensor | list[dict[str, Tensor]]
"""Classes int64 [B], mixed classes float [B, C], values float [B], or the annotated boxes of each image."""


class Batch(NamedTuple):
    """Some examples of a part."""

    inputs: Inputs
    targets: Targets
    indices: Tensor
    """Their numbers in the part, int64 [B]."""

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device; its numbers stay where they are."""
        if device.type == "cpu":
            return self
        inputs, targets = tree_map_only(
            Tensor, lambda tensor: tensor.to(device, non_blocking=True), (self.inputs, self.targets)
        )
        return Batch(inputs, targets, self.indices)


class Examples(Dataset[Batch]):
    """The examples of one part of a data set. A DataLoader with a batch sampler and `collate_fn=lambda batch: batch`
    loads them through `__getitems__`, in worker processes if it has some.

    Attributes:
        epoch: what random augmentation depends on, beside the seed and the number of the example: so that an epoch can
            be done again. To be set before the epoch is loaded.
        labels: the classes, int64 [N], which batches take their targets from, so that other labels can be put in
            place; None for tasks other than classification.
        values: what a regression predicts, float [N]; None for other tasks.
    """

    epoch: int = 0
    labels: Tensor | None = None
    values: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitems__(self, indices: list[int]) -> Batch:
        numbers = torch.tensor(indices)
        return Batch(self.inputs_of(indices), self.targets[numbers], numbers)

    def inputs_of(self, indices: list[int]) -> Inputs:
        """The inputs of a batch."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def told(self, index: int) -> str:
        """An example's inputs, in a line for people."""
        inputs = self.__getitems__([index]).inputs
        if isinstance(inputs, dict):
            return ", ".join(f"{name} {_shape(tensor[0])}" for name, tensor in inputs.items())
        tensor = inputs[0]
        low, mean, high = (float(value) for value in (tensor.min(), tensor.float().mean(), tensor.max()))
        return f"{_shape(tensor)} of {low:.3g} to {high:.3g}, mean {mean:.3g}"

    @property
    def targets(self) -> Tensor:
        """The labels, or the values: of the examples' task, by the kind of their numbers."""
        targets = self.labels if self.values is None else self.values
        assert targets is not None
        return targets

    @targets.setter
    def targets(self, targets: Tensor) -> None:
        self.values, self.labels = (targets, None) if targets.is_floating_point() else (None, targets)


class TensorExamples(Examples):
    """Examples in memory, as they are given to the model.

    Args:
        inputs: a tensor [N, ...], or several by their names.
        targets: classes int64 [N], or values float [N].
    """

    def __init__(self, inputs: Tensor | dict[str, Tensor], targets: Tensor) -> None:
        self.inputs = inputs
        self.targets = targets

    def inputs_of(self, indices: list[int]) -> Inputs:
        if isinstance(self.inputs, dict):
            return {name: tensor[indices] for name, tensor in self.inputs.items()}
        return self.inputs[indices]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
