"""Lightning with curriculum by smoothing.

LeRaC and `DataParameters` need nothing of this: the one is a scheduler, the other a part of the LightningModule.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, Trainer

from lerac_fast.cbs.cbs import CBS

__all__ = ["SmoothingCallback"]


class SmoothingCallback(Callback):
    """Steps `CBS` after each epoch of a Lightning Trainer, once it has been validated.

        >>> trainer = Trainer(callbacks=[SmoothingCallback(CBS(module, sigma=1.0, decay=0.9, every=5))])

    Its state is in every checkpoint: a training that goes on from one has the width of its epoch, and so do validation,
    test and prediction of one.
    """

    def __init__(self, smoothing: CBS) -> None:
        self.smoothing = smoothing

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        # Not on_train_epoch_start, which is left out for an epoch at whose very beginning a training goes on.
        while self.smoothing.steps < trainer.current_epoch:
            self.smoothing.step()

    def state_dict(self) -> dict[str, Any]:
        return self.smoothing.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.smoothing.load_state_dict(state_dict)
