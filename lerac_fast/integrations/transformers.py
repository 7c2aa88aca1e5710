"""transformers' Trainer with temperatures of classes and examples, and with curriculum by smoothing.

LeRaC needs nothing of this: it is the trainer's scheduler.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from lerac_fast.cbs.cbs import CBS
from lerac_fast.data_parameters.loss import DataParameters

__all__ = ["DataParametersTrainer", "SmoothingCallback"]

_FILE = "data_parameters.pt"  # in the folder of a checkpoint


class DataParametersTrainer(Trainer):
    """A Trainer whose loss is a `DataParameters`: classes, examples or both have learned temperatures.

        >>> criterion = DataParameters(num_instances=len(dataset), instance_lr=0.2)
        >>> trainer = DataParametersTrainer(model, args, train_dataset=with_indices(dataset), criterion=criterion)
        >>> trainer.train()

    The items of `dataset` are mappings with "labels", int64 from 0 on, and the output of the model has "logits"
    `[N, C]`. Their "index", which `with_indices` adds, reaches the loss and not the model, whatever the argument
    `remove_unused_columns`. It travels in its batch, so that workers may fetch batches ahead.

    The temperatures are updated when the optimizer steps. The loss is the mean of those of the accumulated batches; a
    smaller last one counts as much as the others. Evaluation has the plain cross entropy, and needs no index. Every
    checkpoint has the temperatures (`data_parameters.pt`), and `train(resume_from_checkpoint=...)` goes on with them.
    To train with another subclass of Trainer, let a class inherit from this one and from that.

    Why not `compute_loss_func`: a Trainer gives it outputs and labels, and no index.

    It takes what Trainer takes, and one argument more.

    Args:
        criterion: it is moved to the device of the trainer. Do not call its `step()`.

    Raises:
        ValueError: `compute_loss_func` or `label_smoothing_factor` is given, too (`DataParameters` has
            `label_smoothing`); by `train()`, in a search of hyperparameters, whose trials would share temperatures.
        FileNotFoundError: by `train()`, of a checkpoint without temperatures.
    """

    def __init__(self, *args: Any, criterion: DataParameters, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.compute_loss_func is not None:
            raise ValueError("leave out compute_loss_func: the loss of a DataParametersTrainer is its criterion")
        if self.label_smoother is not None:
            raise ValueError(
                f"leave out label_smoothing_factor={self.args.label_smoothing_factor} of the arguments, and give "
                "label_smoothing to DataParameters"
            )
        self.criterion = criterion.to(self.args.device)
        self.label_names = ["labels"]  # or the Trainer would drop them for a model that does not ask for labels
        self.model_accepts_loss_kwargs = False  # or the Trainer would not divide the loss by the number of batches
        self.add_callback(_CriterionCallback(self))

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        if trial is not None:
            raise ValueError("a search of hyperparameters would give each trial the temperatures of the one before")
        last = get_last_checkpoint(self.args.output_dir) if resume_from_checkpoint is True else resume_from_checkpoint
        if last:
            self.criterion.load_state_dict(_tables_of(last))
        return super().train(resume_from_checkpoint, trial, *args, **kwargs)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, Any]:
        inputs = dict(inputs)
        labels, indices = inputs.pop("labels"), inputs.pop("index", None)
        outputs = model(**inputs)
        self.criterion.train(model.training)
        loss: Tensor = self.criterion(outputs["logits"], labels, indices)
        return (loss, outputs) if return_outputs else loss

    def _set_signature_columns_if_needed(self) -> None:
        """Which columns the trainer keeps. Should it no longer ask here, the criterion will miss its indices."""
        super()._set_signature_columns_if_needed()
        if "index" not in self._signature_columns:
            self._signature_columns.append("index")


class _CriterionCallback(TrainerCallback):
    def __init__(self, trainer: DataParametersTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.trainer.criterion.zero_grad()  # of a training that was interrupted

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Before, since the step of Accelerate's optimizer changes the scale of a GradScaler."""
        self.trainer.criterion.step(self.trainer.accelerator.scaler)

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        tables = {name: _whole(table) for name, table in self.trainer.criterion.state_dict().items()}
        if state.is_world_process_zero:
            torch.save(tables, Path(args.output_dir, f"checkpoint-{state.global_step}", _FILE))


def _tables_of(checkpoint: str) -> dict[str, Tensor]:
    path = Path(checkpoint, _FILE)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing, as in a checkpoint of a training without DataParameters: load the model from it, and "
            "train without resume_from_checkpoint"
        )
    tables: dict[str, Tensor] = torch.load(path, "cpu", weights_only=True)
    return tables


def _whole(table: Any) -> Tensor:
    whole: Tensor = table.full_tensor() if hasattr(table, "full_tensor") else table
    return whole


class SmoothingCallback(TrainerCallback):
    """Steps `CBS` after each epoch of a transformers Trainer, once it has been evaluated.

        >>> trainer = Trainer(model, args, train_dataset=dataset, callbacks=[SmoothingCallback(CBS(model))])

    A training that goes on from a checkpoint has the width of its epoch: the number of epochs done is the trainer's.
    """

    def __init__(self, smoothing: CBS) -> None:
        self.smoothing = smoothing

    def on_epoch_begin(self, _: TrainingArguments, state: TrainerState, *__: Any, **___: Any) -> None:
        while self.smoothing.steps < math.floor(state.epoch or 0):
            self.smoothing.step()
