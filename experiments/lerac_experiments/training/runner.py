"""One trial, from its first step to its record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, ReduceLROnPlateau

from lerac_experiments.data.examples import Batch, Examples
from lerac_experiments.data.mosaic import Mosaic
from lerac_experiments.data.noise import Chosen, with_wrong_labels
from lerac_experiments.data.source import Parts
from lerac_experiments.environment import environment
from lerac_experiments.errors import ExperimentError
from lerac_experiments.files import Damaged
from lerac_experiments.models.initializers import initialise
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.options import find
from lerac_experiments.training.distributed import Ranks
from lerac_experiments.training.history import History, describe
from lerac_experiments.training.loading import consecutive, derived, load, shuffled
from lerac_experiments.training.log import training_log
from lerac_experiments.training.optimizers import optimizer_for
from lerac_experiments.training.regimes import REGIMES, Setup
from lerac_experiments.training.regimes.training_accuracy import TrainingAccuracy
from lerac_experiments.training.tasks import TASKS, Outcome
from lerac_experiments.trials.store import DONE, TrialFolder
from lerac_experiments.trials.trial import Trial

EVALUATION_BATCH = 256
"""The most examples that are evaluated at once. No more than are trained at once, so that what can be trained can be
evaluated: without gradients, a batch takes less memory than with them."""

STEPS_TO_AGREE = 32
"""How often several processes ask the first one whether a checkpoint is due: the answer costs each of them a wait."""


DEVICE_ERRORS = (torch.OutOfMemoryError, torch.AcceleratorError)
"""Which say nothing of what is read or computed on the device."""


class Unanimous(ExperimentError):
    """What all ranks find wrong alike, so that they can go on with the next trial together."""


class Diverged(Unanimous):
    """The loss is infinite or not a number."""


@dataclass(frozen=True)
class Machine:
    """How a trial is run, which does not decide what comes of it (but for rounding)."""

    ranks: Ranks
    workers: int = 0
    """Processes that load data."""
    checkpoint_seconds: float = 120.0
    """The least time between two checkpoints."""
    keep_weights: bool = False
    """Whether the tested weights are kept."""
    on_epoch: Callable[[int], None] = lambda _: None
    """Called after every epoch, with the number of those done."""
    tensorboard: Path | None = None
    """A folder for TensorBoard's logs."""


class Runner:
    """Trains one trial. Raises what goes wrong; nothing is recorded then but the last checkpoint.

    Building and `resume` wait for no other rank, so that one that fails there keeps none waiting; `run` does.

    Args:
        parts: of the trial's data set, right labels.
        pretrained: the folder with the weights that the model starts from, if it does from some.
    """

    def __init__(
        self, trial: Trial, spec: ModelSpec, parts: Parts, machine: Machine, pretrained: Path | None = None
    ) -> None:
        self.trial, self.machine, self.ranks = trial, machine, machine.ranks
        self.regime = find(REGIMES, trial.regime, "regime")
        self.corrupt: Tensor | None = None
        if trial.protocol.label_noise > 0.0:
            parts, self.corrupt = with_wrong_labels(parts, trial.protocol.label_noise, trial.seed)
            if trial.protocol.noise_free:
                parts, self.corrupt = replace(parts, train=Chosen(parts.train, ~self.corrupt)), None
        if trial.protocol.mosaic:
            parts = replace(parts, train=Mosaic(parts.train, trial.seed))
        self.parts, self.provenance = parts, parts.provenance
        self.task = TASKS[parts.task]
        parts.train.epoch = 0  # whatever the trial before this one has left
        settings = trial.settings
        if settings.batch_size % self.ranks.count:
            raise ExperimentError(
                f"batch_size={settings.batch_size} must be a multiple of the {self.ranks.count} processes"
            )
        self.steps_per_epoch = max(1, len(parts.train) // settings.batch_size)
        self.total_steps = settings.epochs * self.steps_per_epoch
        _seed("initial weights", trial.seed)
        device = self.ranks.device
        self.model = spec.make(parts, pretrained)
        initialise(self.model, trial.protocol.initializer)
        self.model.to(device)
        example = parts.train.__getitems__([0, min(1, len(parts.train) - 1)]).to(device).inputs
        self.optimizer = optimizer_for(trial, spec.groups(self.model, example))
        setup = Setup(
            trial,
            self.model,
            self.optimizer,
            parts,
            spec.sites(self.model),
            self.steps_per_epoch,
            self.ranks,
            self.corrupt,
        )
        self.ingredients = [make(setup) for make in self.regime.ingredients]
        if trial.protocol.label_noise > 0.0:
            self.ingredients.append(TrainingAccuracy(setup))
        self.decay = self._decay()
        self.wrapped = self.model
        self.history = History()
        self.best: dict[str, Tensor] = {}
        self.steps_done = 0
        self.losses: list[Tensor] = []  # of the steps of this epoch
        self.seconds = 0.0  # that they took
        self.saved = time.monotonic()  # when the last checkpoint was

    def run(self, folder: TrialFolder) -> dict[str, Any]:
        """Trains to the end and returns the record.

        Raises:
            Diverged: the loss is not finite.
            Unanimous: the ranks start from different steps.
            OSError: a checkpoint cannot be written.
        """
        if len(set(done := self.ranks.gather(self.steps_done))) > 1:
            raise Unanimous(f"the processes find different checkpoints, of the steps {done}: {folder.path}")
        for ingredient in self.ingredients:
            ingredient.agree(self.ranks)
        self.wrapped = self.ranks.wrap(self.model)
        logs = self.machine.tensorboard if self.ranks.first else None
        with training_log(logs and logs / self.trial.id, len(self.history.epochs)) as log:
            while not self._over():
                self._train(folder)
                self._end_epoch()
                log(self.history.epochs[-1], len(self.history.epochs))
                self.machine.on_epoch(len(self.history.epochs))
        self.model.load_state_dict(self.best)
        tested = self._evaluate(self.parts.test)
        _require_finite(tested.loss, "the test loss")
        if self.ranks.first and self.machine.keep_weights:
            folder.save_weights(self.best)
        return self._record(tested)

    def rehearse(self, batch: Batch) -> None:
        """Trains and evaluates on a few of the first examples, to see whether that can be done. After it, this object
        is of no use."""
        batch = batch.to(self.ranks.device)
        self._set_mode(training=True)
        _require_finite(float(self._step(batch)), "the first training loss")
        self._set_mode(training=False)
        with torch.inference_mode(), self._precision():
            self.task.evaluate(self.model, [batch], len(batch.indices), self.ranks)

    def _over(self) -> bool:
        history, patience = self.history, self.trial.protocol.stop_patience
        if len(history.epochs) >= self.trial.settings.epochs:
            return True
        if patience is None or any(ingredient.active or ingredient.decides_rates for ingredient in self.ingredients):
            return False
        # Epochs under LeRaC are no waiting.
        return len(history.epochs) - max(history.best_epoch, history.active_epochs) >= patience

    def _train(self, folder: TrialFolder) -> None:
        """The steps of this epoch that are not done yet."""
        number = len(self.history.epochs)
        if not self.losses:
            _seed(f"epoch {number}, rank {self.ranks.rank}", self.trial.seed)
        self._set_mode(training=True)
        started = time.perf_counter() - self.seconds
        for batch in self._training_batches(number, first=len(self.losses)):
            if self._checkpoint_is_due():
                if self.losses:
                    self.losses[-1].item()  # waits until the GPU has done the steps that are timed
                self.seconds = time.perf_counter() - started
                self._save(folder)
                started = time.perf_counter() - self.seconds
            self.losses.append(self._step(batch))
        self.losses[-1].item()
        self.seconds = time.perf_counter() - started

    def _end_epoch(self) -> None:
        """Validates, and notes how it went."""
        number = len(self.history.epochs) + 1
        loss = sum(self.ranks.gather(torch.stack(self.losses).mean().item())) / self.ranks.count
        _require_finite(loss, f"the training loss of epoch {number}")
        active = any(ingredient.active for ingredient in self.ingredients)
        started = time.perf_counter()
        outcome = self._evaluate(self.parts.validation)
        _require_finite(outcome.loss, f"the validation loss after epoch {number}")
        self._note(loss, outcome, time.perf_counter() - started, active)
        self.losses, self.seconds = [], 0.0

    def _step(self, batch: Batch) -> Tensor:
        self.history.note_rates(self.steps_done, self.total_steps, self.optimizer)
        self.optimizer.zero_grad()
        for ingredient in self.ingredients:
            batch = ingredient.on_batch(batch)
        with self._precision():
            outputs = self.task.forward(self.wrapped, batch)
        if isinstance(outputs, Tensor):
            outputs = outputs.float()
        for ingredient in self.ingredients:
            ingredient.on_outputs(outputs, batch)
        own = (ingredient.loss(outputs, batch) for ingredient in self.ingredients)
        chosen = next((loss for loss in own if loss is not None), None)
        loss = self.task.loss(outputs, batch) if chosen is None else chosen
        loss.backward()
        self.optimizer.step()
        for ingredient in self.ingredients:
            ingredient.on_step()
        if isinstance(self.decay, CosineAnnealingLR | MultiStepLR):
            self.decay.step()
        self.steps_done += 1
        return loss.detach()

    def _note(self, loss: float, outcome: Outcome, evaluation_seconds: float, active: bool) -> None:
        epoch: dict[str, float] = {
            "train_loss": loss,
            "validation_loss": outcome.loss,
            "validation_metric": outcome.metric,
            "seconds": self.seconds,
            "evaluation_seconds": evaluation_seconds,
            "active": float(active),
        }
        for ingredient in self.ingredients:
            epoch |= ingredient.trace()
        if self.history.note_epoch(epoch, outcome.metric if self.task.higher_is_better else -outcome.metric):
            self.best = {name: t.detach().cpu().clone() for name, t in self.model.state_dict().items()}
        if isinstance(self.decay, ReduceLROnPlateau) and not active:
            self.decay.step(outcome.loss)

    def _training_batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """Those of an epoch, from this one on. What is drawn for one does not depend on those before it."""
        order = shuffled(len(self.parts.train), f"order {epoch}", self.trial.seed)
        size = self.trial.settings.batch_size
        self.parts.train.epoch = epoch
        even = min(size, len(order) // self.ranks.count * self.ranks.count)  # the same share for every rank
        batches = [order[i * size : i * size + even] for i in range(first, self.steps_per_epoch)]
        protocol = self.trial.protocol
        mix = self.parts.mix if self.regime.mixes and protocol.augment and protocol.mix_up else None
        for step, batch in enumerate(self._load(self.parts.train, batches), self.steps_done):
            if mix is None:
                yield batch.to(self.ranks.device)
            else:
                seed = derived(f"mix {step}, rank {self.ranks.rank}", self.trial.seed)
                yield mix(batch, torch.Generator().manual_seed(seed)).to(self.ranks.device)

    def _evaluate(self, examples: Examples) -> Outcome:
        self._set_mode(training=False)
        self.ranks.synchronise(self.model)
        batches = consecutive(len(examples), min(EVALUATION_BATCH, self.trial.settings.batch_size))
        loaded = (batch.to(self.ranks.device) for batch in self._load(examples, batches))
        with torch.inference_mode(), self._precision():
            return self.task.evaluate(self.model, loaded, len(examples), self.ranks)

    def _load(self, examples: Examples, batches: list[list[int]]) -> Iterator[Batch]:
        return load(examples, batches, self.ranks, self.machine.workers)

    def _set_mode(self, *, training: bool) -> None:
        self.model.train(training)
        self.wrapped.train(training)
        for ingredient in self.ingredients:
            ingredient.on_mode(training)

    def _precision(self) -> torch.autocast:
        return torch.autocast(
            self.ranks.device.type, torch.bfloat16, enabled=self.trial.protocol.precision == "bfloat16"
        )

    def _decay(self) -> ReduceLROnPlateau | MultiStepLR | CosineAnnealingLR | None:
        protocol, total = self.trial.protocol, self.total_steps
        if any(ingredient.decides_rates for ingredient in self.ingredients):
            return None
        if protocol.schedule == "steps":
            milestones = [round(share * total) for share in protocol.milestones]
            return MultiStepLR(self.optimizer, milestones, gamma=protocol.step_factor)
        if protocol.schedule == "cosine":
            return CosineAnnealingLR(self.optimizer, total)
        return ReduceLROnPlateau(self.optimizer, factor=0.1, patience=protocol.plateau_patience)

    def _checkpoint_is_due(self) -> bool:
        if self.ranks.count > 1 and len(self.losses) % STEPS_TO_AGREE:
            return False
        return self.ranks.decide(time.monotonic() - self.saved >= self.machine.checkpoint_seconds)

    def _save(self, folder: TrialFolder) -> None:
        """Writes a checkpoint. If the first rank cannot, all raise."""
        state, error = self._state(), None
        if self.ranks.first:
            try:
                folder.save_checkpoint(state)
            except OSError as failed:
                error = failed
        if error := self.ranks.decide(error):
            raise error
        self.saved = time.monotonic()

    def _state(self) -> dict[str, Any]:
        device = self.ranks.device
        own = {
            "device": device.type,
            "losses": torch.stack(self.losses).cpu() if self.losses else None,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "parts": [ingredient.state_dict() for ingredient in self.ingredients],
            "decay": None if self.decay is None else self.decay.state_dict(),
            "history": vars(self.history),
            "best": self.best,
            "steps_done": self.steps_done,
            "seconds": self.seconds,
            "ranks": self.ranks.gather(own),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint. After an error this object is of no use.

        Raises:
            Damaged: it is not one of this trial, as this version trains it.
        """
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            for ingredient, own_state in zip(self.ingredients, state["parts"], strict=True):
                ingredient.load_state_dict(own_state)
            if self.decay is not None:
                self.decay.load_state_dict(state["decay"])
            self.history = History(**state["history"])
            self.best, self.steps_done = state["best"], state["steps_done"]
            self._resume_epoch(state["ranks"], state["seconds"])
        except DEVICE_ERRORS:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise Damaged(f"the checkpoint does not fit: {type(error).__name__}: {error}") from error
        self.history.resumed += 1

    def _resume_epoch(self, ranks: list[dict[str, Any]], seconds: float) -> None:
        """Goes on in the middle of an epoch, if the checkpoint is from there."""
        if ranks[0]["losses"] is None:
            return
        self.seconds = seconds
        device = self.ranks.device
        if len(ranks) == self.ranks.count and ranks[0]["device"] == device.type:
            own = ranks[self.ranks.rank]
            losses = own["losses"]
            torch.set_rng_state(own["random"])
            if device.type == "cuda":
                torch.cuda.set_rng_state(own["random_cuda"], device)
        else:  # the numbers of other processes than those would be others in any case
            losses = torch.stack([rank["losses"] for rank in ranks]).mean(dim=0)
            _seed(f"step {self.steps_done}, rank {self.ranks.rank}", self.trial.seed)
        self.losses = [*losses.to(device)]

    def _record(self, tested: Outcome) -> dict[str, Any]:
        described = describe(self.history, self.task, tested, self.parts, self.model, self.optimizer)
        if self.corrupt is not None:
            found = (ingredient.wrong_found(self.parts.train, self.corrupt) for ingredient in self.ingredients)
            described["result"]["wrong_found"] = next((share for share in found if share is not None), None)
        return {
            "status": DONE,
            **described,
            "data": self.provenance,
            "steps_per_epoch": self.steps_per_epoch,
            "ranks": self.ranks.count,
            "device": self.ranks.device.type,
            "environment": environment(),
        }


def _require_finite(loss: float, name: str) -> None:
    if not math.isfinite(loss):
        raise Diverged(f"{name} is {loss}")


def _seed(purpose: str, seed: int) -> None:
    torch.manual_seed(derived(purpose, seed))
