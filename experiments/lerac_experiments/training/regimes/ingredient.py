"""What an ingredient of a regime is, and what it is made for."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from lerac_experiments.data.examples import Batch, Examples, Inputs
from lerac_experiments.data.source import Parts
from lerac_experiments.training.distributed import Ranks
from lerac_experiments.trials.trial import Trial
from lerac_fast.cbs.sites import Where


@dataclass(frozen=True)
class Setup:
    """What the ingredients of a regime are made for."""

    trial: Trial
    model: nn.Module
    optimizer: Optimizer
    parts: Parts
    smoothing: Where | None
    """Where CBS acts on this model."""
    steps_per_epoch: int
    ranks: Ranks
    corrupt: Tensor | None = None
    """Which training labels are wrong, bool [N]; None, nobody knows of any."""

    def first_inputs(self, count: int) -> Inputs:
        """Of so many training examples, for what is measured before the training."""
        batch = self.parts.train.__getitems__(list(range(min(count, len(self.parts.train)))))
        return batch.to(self.ranks.device).inputs

    def steps(self, epochs: float) -> int:
        """So many epochs in optimizer steps."""
        return round(epochs * self.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training, if it does not end early."""
        return self.trial.settings.epochs * self.steps_per_epoch


class Ingredient:
    """One ingredient of a regime. It does nothing; those that do override what they need."""

    decides_rates = False
    """Whether it takes the place of the decay of the trial's protocol."""
    kept: Any = None
    """What a checkpoint keeps of it, by its `state_dict` and `load_state_dict`; None, nothing."""

    def agree(self, ranks: Ranks) -> None:
        """Goes on from what the first rank has measured. Called once all are built: while they are, one might wait for
        another that has failed."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor | None:  # noqa: ARG002
        """What is minimised; None, the loss of the task."""
        return None

    def on_batch(self, batch: Batch) -> Batch:
        """What is trained on in place of a batch of the training part."""
        return batch

    def on_outputs(self, outputs: Any, batch: Batch) -> None:
        """The model's outputs for a batch that is trained on."""

    def on_step(self) -> None:
        """An optimizer step is done."""

    def on_mode(self, training: bool) -> None:
        """Training or evaluation begins."""

    @property
    def active(self) -> bool:
        """Whether it still keeps the training from what it would be without it, so that its plateaus are none."""
        return False

    def trace(self) -> dict[str, float]:
        """What is recorded of it after each epoch."""
        return {}

    def wrong_found(self, examples: Examples, wrong: Tensor) -> float | None:  # noqa: ARG002
        """The share of the wrong labels, of which there are some, that it has found out by itself; None if it does not
        look for them.

        Args:
            wrong: which labels of the training examples are, bool [N].
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on."""
        return {} if self.kept is None else self.kept.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        if self.kept is not None:
            self.kept.load_state_dict(state)


class StepCount:
    """How many optimizer steps are done, for ingredients that go by their share of the training."""

    def __init__(self) -> None:
        self.done = 0

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on from there."""
        self.done = int(state["done"])
