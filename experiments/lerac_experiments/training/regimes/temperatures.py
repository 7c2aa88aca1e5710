"""Data parameters, as an ingredient."""

from typing import Any

import torch
from torch import Tensor

from lerac_experiments.data.examples import Batch, Examples
from lerac_experiments.errors import ExperimentError
from lerac_experiments.training.regimes.ingredient import Ingredient, Setup
from lerac_fast import DataParameters
from lerac_fast.data_parameters.detection import TemperedAnchors


class Temperatures(Ingredient):
    """Learned temperatures of classes, of examples (of boxes, in detection), or of both."""

    def __init__(self, setup: Setup, *, classes: bool, instances: bool) -> None:
        protocol, settings = setup.trial.protocol, setup.trial.settings
        detection = setup.parts.task == "detection"
        if setup.parts.task == "regression":
            raise ExperimentError(f"data parameters divide logits, and {setup.trial.data} is a regression")
        count = getattr(setup.parts.train, "boxes", None) if detection else len(setup.parts.train)
        device = next(setup.model.parameters()).device
        self.kept = self.criterion = DataParameters(
            setup.parts.classes if classes else None,
            count if instances else None,
            class_lr=protocol.class_lr,
            instance_lr=protocol.instance_lr,
            # For detection the paper has neither.
            momentum=0.0 if detection else 0.9,
            weight_decay=0.0 if detection else settings.weight_decay,
            clamp=protocol.sigma_bounds,
        ).to(device)
        self._labels, self._corrupt = setup.parts.train.labels, setup.corrupt
        self._detection = detection
        if detection:
            detector: Any = setup.model
            if not hasattr(detector, "compute_loss"):
                raise ExperimentError(
                    f"{setup.trial.regime} takes the place of a detector's compute_loss, as torchvision's SSD has one, "
                    f"and {setup.trial.model} has none"
                )
            detector.compute_loss = TemperedAnchors(detector.compute_loss, self.criterion)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor | None:
        if self._detection:  # the detector computes its own
            return None
        assert isinstance(batch.targets, Tensor)
        loss: Tensor = self.criterion(outputs, batch.targets, batch.indices.to(outputs.device))
        return loss

    def on_step(self) -> None:
        self.criterion.step()

    def on_mode(self, training: bool) -> None:
        self.criterion.train(training)

    def trace(self) -> dict[str, float]:
        """Of right and of wrong labels, where it is known which these are: the mean and the deviation."""
        if self._corrupt is None or self._labels is None:
            return {}
        sigma = self._sigma(self._labels)
        traced: dict[str, float] = {}
        for name, chosen in (("right", ~self._corrupt), ("wrong", self._corrupt)):
            deviation, mean = torch.std_mean(sigma[chosen].double(), correction=0)
            traced |= {f"sigma_{name}": float(mean), f"sigma_{name}_deviation": float(deviation)}
        if self.criterion.instance_log_sigma is not None:
            traced["wrong_found"] = share_found(sigma, self._corrupt)
        return traced

    def wrong_found(self, examples: Examples, wrong: Tensor) -> float | None:
        """By the highest temperatures, as many as there are wrong labels."""
        if self.criterion.instance_log_sigma is None or examples.labels is None:
            return None
        return share_found(self._sigma(examples.labels), wrong)

    def _sigma(self, labels: Tensor) -> Tensor:
        """The temperatures of all training examples, of these classes: float [N]."""
        device = next(table for table in self.criterion.buffers()).device
        return self.criterion.sigma(labels.to(device), torch.arange(len(labels), device=device)).cpu()


def share_found(sigma: Tensor, wrong: Tensor) -> float:
    """The share of wrong labels among the highest temperatures, as many as there are wrong labels."""
    return float(wrong[sigma.topk(int(wrong.sum())).indices].double().mean())
