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
        self._detection = detection
        if detection:
            detector: Any = setup.model
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

    def wrong_found(self, examples: Examples, wrong: Tensor) -> float | None:
        """By the highest temperatures, as many as there are wrong labels."""
        table = self.criterion.instance_log_sigma
        if table is None or examples.labels is None:
            return None
        numbers = torch.arange(len(examples), device=table.device)
        sigma = self.criterion.sigma(examples.labels.to(table.device), numbers).cpu()
        return float(wrong[sigma.topk(int(wrong.sum())).indices].double().mean())
