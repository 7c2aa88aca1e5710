"""Label-similarity curriculum (Dogan et al., ECCV 2020; arXiv 1911.06902): targets that sharpen to one class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lerac_experiments.data.examples import Batch
from lerac_experiments.errors import ExperimentError
from lerac_experiments.models.name_embeddings import embed_names
from lerac_experiments.training.regimes.ingredient import Ingredient, Setup, StepCount


class SimilarLabels(Ingredient):
    """The target of an example is a distribution over classes: what is not its own class's is shared among the others
    by their similarity to it, and becomes less after every epoch."""

    def __init__(self, setup: Setup) -> None:
        self.kept = self._steps = StepCount()
        self._steps_per_epoch = setup.steps_per_epoch
        self._epsilon, self._share = setup.trial.protocol.label_epsilon, setup.trial.protocol.share
        self._others = shares_of_others(_similarity(setup)).to(setup.ranks.device)

    @property
    def spread(self) -> float:
        """What is not of the own class, in the next step. Scaled down, an epoch stands for several."""
        return spread_after(int(self._steps.done / self._steps_per_epoch / self._share), self._epsilon)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor | None:
        assert isinstance(batch.targets, Tensor)
        table = soft_targets(self._others, self.spread).to(outputs.dtype)
        mixed = batch.targets.is_floating_point()
        return F.cross_entropy(outputs, batch.targets @ table if mixed else table[batch.targets])

    def on_step(self) -> None:
        self._steps.done += 1

    def trace(self) -> dict[str, float]:
        return {"spread": self.spread}


def spread_after(epochs: int, epsilon: float) -> float:
    """What is left to other classes than the own after so many epochs.

    It starts at epsilon / (1 + epsilon). After each epoch the target of the own class becomes 1 and those of the others
    are multiplied by epsilon; then all are divided by their sum, which makes epsilon * o / (1 + epsilon * o) of o. So
    we know the method; the text of the paper was not at hand to compare the equations.
    """
    spread = epsilon / (1.0 + epsilon)
    for _ in range(epochs):
        spread = epsilon * spread / (1.0 + epsilon * spread)
    return spread


def shares_of_others(similarity: Tensor) -> Tensor:
    """How what is not of class i is shared among the others: [C, C], rows of sum 1 with 0 at i."""
    others = similarity.clone().fill_diagonal_(0.0)
    return others / others.sum(dim=1, keepdim=True)


def soft_targets(others: Tensor, spread: float) -> Tensor:
    """The target of each class, [C, C]: `1 - spread` at its own."""
    return spread * others + (1.0 - spread) * torch.eye(len(others), dtype=others.dtype, device=others.device)


def _similarity(setup: Setup) -> Tensor:
    """Of the classes, [C, C], not negative: from a file, or of their names."""
    file, names = setup.trial.protocol.class_similarity, setup.parts.class_names
    if file is not None:
        return read_similarity(Path(file), setup.parts.classes)
    if not names:
        raise ExperimentError(
            f"{setup.trial.regime} goes by the similarity of classes, and those of {setup.trial.data} have no names "
            "here: give --class-similarity, a csv file with a row of numbers for each class"
        )
    return name_similarity(names)


def name_similarity(names: Sequence[str]) -> Tensor:
    """The cosines of the names' embeddings, moved from [-1, 1] to [0, 1]: [C, C]."""
    vectors = F.normalize(embed_names(names), dim=1)
    return (1.0 + vectors @ vectors.T).clamp_(0.0, 2.0) / 2.0


def read_similarity(path: Path, classes: int) -> Tensor:
    """Reads the similarity of each class to each other from a csv file: the diagonal does not count.

    Raises:
        ExperimentError: it cannot be read, is not of so many classes, or a class is similar to no other.
    """
    try:
        similarity = torch.from_numpy(np.loadtxt(path, delimiter=",", ndmin=2, dtype=np.float32, encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ExperimentError(f"class_similarity={path} cannot be read: {error}") from error
    if similarity.shape != (classes, classes):
        rows, columns = similarity.shape
        raise ExperimentError(f"class_similarity={path} is {rows} x {columns} numbers, and there are {classes} classes")
    others = similarity.clone().fill_diagonal_(0.0)
    if not others.isfinite().all() or bool((others < 0.0).any()) or not bool((others.sum(dim=1) > 0.0).all()):
        raise ExperimentError(
            f"class_similarity={path} must hold numbers from 0 on, and of each class one above 0 beside its own"
        )
    return similarity
