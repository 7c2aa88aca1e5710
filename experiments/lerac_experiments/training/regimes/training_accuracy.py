"""How well the labels that are trained with are known, where some are wrong: what is known of these is memorised."""

from typing import Any

import torch
from torch import Tensor

from lerac_experiments.data.examples import Batch
from lerac_experiments.training.regimes.ingredient import Ingredient, Setup


class TrainingAccuracy(Ingredient):
    """Of each epoch, the accuracy on its batches as they are trained on, by their labels as they are."""

    def __init__(self, setup: Setup) -> None:
        self._ranks = setup.ranks
        self._counts = torch.zeros(2, dtype=torch.int64, device=setup.ranks.device)

    def on_outputs(self, outputs: Any, batch: Batch) -> None:
        assert isinstance(batch.targets, Tensor)
        labels = batch.targets.argmax(dim=1) if batch.targets.is_floating_point() else batch.targets
        hits = (outputs.detach().argmax(dim=1) == labels).sum()
        self._counts += torch.stack([hits, hits.new_tensor(len(batch.targets))])

    def trace(self) -> dict[str, float]:
        """Called once an epoch, after which it counts anew."""
        hits, seen = torch.stack(self._ranks.gather(self._counts.cpu())).sum(dim=0).tolist()
        self._counts.zero_()
        return {"train_accuracy": hits / max(1, seen)}

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self._counts.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._counts.copy_(state["counts"])
