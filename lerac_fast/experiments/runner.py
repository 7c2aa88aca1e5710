"""One trial, from its first step to its record."""

from __future__ import annotations

import base64
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from lerac_fast import optim
from lerac_fast.experiments.data.examples import Batch, Examples
from lerac_fast.experiments.data.noise import Chosen, with_wrong_labels
from lerac_fast.experiments.data.source import Parts
from lerac_fast.experiments.distributed import Ranks
from lerac_fast.experiments.environment import environment
from lerac_fast.experiments.errors import ExperimentError
from lerac_fast.experiments.models.spec import ModelSpec
from lerac_fast.experiments.options import find
from lerac_fast.experiments.regimes import REGIMES, Setup
from lerac_fast.experiments.tasks import TASKS, Outcome
from lerac_fast.experiments.trials.store import DONE, TrialFolder
from lerac_fast.experiments.trials.trial import Trial

EVALUATION_BATCH = 256
TRACED_STEPS = 200
"""How many points the traces of learning rates have, at most about."""


class Diverged(ExperimentError):
    """The loss is infinite or not a number."""


@dataclass(frozen=True)
class Machine:
    """How a trial is run, which does not decide what comes of it (but for rounding)."""

    ranks: Ranks
    workers: int = 0
    """Processes that load data."""
    checkpoint_seconds: float = 30.0
    """The least time between two checkpoints; they are written at the end of an epoch."""
    keep_weights: bool = False
    """Whether the tested weights are kept."""
    on_epoch: Callable[[int], None] = lambda _: None
    """Called after every epoch, with the number of those done."""
    tensorboard: Path | None = None
    """A folder for TensorBoard's logs."""


@dataclass
class History:
    """What a trial has done so far. Plain values: it is part of the checkpoint."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    """At which the rates were noted."""
    rates: list[list[float]] = field(default_factory=list)
    """Of the first layer, one in the middle and the last."""
    best_epoch: int = 0
    best_metric: float | None = None
    lowest_loss: float | None = None
    resumed: int = 0
    """How often the trial was taken up again."""


class Runner:
    """Trains one trial. Raises what goes wrong; nothing is recorded then but the last checkpoint.

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
        self.parts = parts
        self.task = TASKS[parts.task]
        settings = trial.settings
        self.steps_per_epoch = max(1, len(parts.train) // settings.batch_size)
        _seed("initial weights", trial.seed)
        device = self.ranks.device
        self.model = spec.build(parts, pretrained).to(device)
        example = _to(parts.train.__getitems__([0, min(1, len(parts.train) - 1)]), device)
        if isinstance(example.inputs, Tensor) and example.inputs.ndim == 4:
            self.model = self.model.to(memory_format=torch.channels_last)  # faster, and the same numbers
        self.optimizer = _optimizer(trial, spec.groups(self.model, example.inputs))
        count = min(len(parts.train), settings.batch_size)
        measured = _to(parts.train.__getitems__(list(range(count))), device).inputs
        setup = Setup(trial, self.model, self.optimizer, parts, spec.smoothing, self.steps_per_epoch, measured)
        self.regime_parts = self.regime.start(setup)
        self.decay = self._decay()
        self.wrapped = self.ranks.wrap(self.model)
        self.history = History()
        self.best: dict[str, Tensor] = {}

    def run(self, folder: TrialFolder) -> dict[str, Any]:
        """Trains to the end, from the last checkpoint if there is one, and returns the record.

        Raises:
            Diverged: the loss is not finite.
            ExperimentError: the checkpoint is damaged.
        """
        self._resume(folder)
        saved = time.monotonic()
        writer = self._tensorboard()
        while not self._over():
            self._epoch()
            if writer is not None:
                for name, value in self.history.epochs[-1].items():
                    writer.add_scalar(name, value, len(self.history.epochs))
            if self.ranks.first and (not self._over() and time.monotonic() - saved >= self.machine.checkpoint_seconds):
                folder.save_checkpoint(self._state())
                saved = time.monotonic()
            self.machine.on_epoch(len(self.history.epochs))
        if writer is not None:
            writer.close()
        self.model.load_state_dict(self.best)
        tested = self._evaluate(self.parts.test)
        if self.ranks.first and self.machine.keep_weights:
            folder.save_weights(self.best)
        return self._record(tested)

    def _over(self) -> bool:
        history, patience = self.history, self.trial.protocol.stop_patience
        if len(history.epochs) >= self.trial.settings.epochs:
            return True
        if patience is None or any(part.active or part.decides_rates for part in self.regime_parts):
            return False
        # Epochs under LeRaC are no waiting.
        return len(history.epochs) - max(history.best_epoch, self._active_epochs) >= patience

    @property
    def _active_epochs(self) -> int:
        return sum(1 for epoch in self.history.epochs if epoch.get("active", 0.0))

    def _epoch(self) -> None:
        number = len(self.history.epochs)
        _seed(f"epoch {number}, rank {self.ranks.rank}", self.trial.seed)
        self._set_mode(training=True)
        started = time.perf_counter()
        losses = [self._step(batch) for batch in self._training_batches(number)]
        loss = torch.stack(losses).mean().item()
        seconds = time.perf_counter() - started
        loss = sum(self.ranks.gather(loss)) / self.ranks.count
        if not math.isfinite(loss):
            raise Diverged(f"the training loss of epoch {number + 1} is {loss}")
        active = any(part.active for part in self.regime_parts)
        for part in self.regime_parts:
            part.on_epoch()
        started = time.perf_counter()
        outcome = self._evaluate(self.parts.validation)
        if not math.isfinite(outcome.loss):
            raise Diverged(f"the validation loss after epoch {number + 1} is {outcome.loss}")
        self._note(loss, outcome, seconds, time.perf_counter() - started, active)

    def _step(self, batch: Batch) -> Tensor:
        history, step = self.history, self._steps_done
        if step % max(1, self.trial.settings.epochs * self.steps_per_epoch // TRACED_STEPS) == 0:
            rates = [float(group["lr"]) for group in self.optimizer.param_groups]
            history.steps.append(step)
            history.rates.append([rates[0], rates[len(rates) // 2], rates[-1]])
        for part in self.regime_parts:
            batch = part.on_batch(batch)
        self.optimizer.zero_grad()
        with self._precision():
            outputs = self.task.forward(self.wrapped, batch)
        if isinstance(outputs, Tensor):
            outputs = outputs.float()
        own = (part.loss(outputs, batch) for part in self.regime_parts)
        chosen = next((loss for loss in own if loss is not None), None)
        loss = self.task.loss(outputs, batch) if chosen is None else chosen
        loss.backward()
        self.optimizer.step()
        for part in self.regime_parts:
            part.on_step()
        if isinstance(self.decay, CosineAnnealingLR | MultiStepLR):
            self.decay.step()
        self._steps_done += 1
        return loss.detach()

    def _note(self, loss: float, outcome: Outcome, seconds: float, evaluation_seconds: float, active: bool) -> None:
        history = self.history
        metric = outcome.metric if self.task.higher_is_better else -outcome.metric
        epoch: dict[str, float] = {
            "train_loss": loss,
            "validation_loss": outcome.loss,
            "validation_metric": outcome.metric,
            "seconds": seconds,
            "evaluation_seconds": evaluation_seconds,
            "active": float(active),
        }
        for part in self.regime_parts:
            epoch |= part.trace()
        history.epochs.append(epoch)
        if history.best_metric is None or metric > history.best_metric:
            history.best_metric, history.best_epoch = metric, len(history.epochs)
            self.best = {name: t.detach().cpu().clone() for name, t in self.model.state_dict().items()}
        if isinstance(self.decay, ReduceLROnPlateau) and not any(part.active for part in self.regime_parts):
            self.decay.step(outcome.loss)

    def _training_batches(self, epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(_derived(f"order {epoch}", self.trial.seed))
        order = torch.randperm(len(self.parts.train), generator=generator).tolist()
        size = self.trial.settings.batch_size
        self.parts.train.epoch = epoch
        batches = [order[i * size : (i + 1) * size] for i in range(self.steps_per_epoch)]
        mixer = torch.Generator().manual_seed(_derived(f"mix {epoch}, rank {self.ranks.rank}", self.trial.seed))
        mix = self.parts.mix if self.regime.mixes and self.trial.protocol.augment else None
        for batch in self._load(self.parts.train, batches):
            yield _to(batch if mix is None else mix(batch, mixer), self.ranks.device)

    def _evaluate(self, examples: Examples) -> Outcome:
        self._set_mode(training=False)
        numbers = list(range(len(examples)))
        batches = [numbers[i : i + EVALUATION_BATCH] for i in range(0, len(numbers), EVALUATION_BATCH)]
        loaded = (_to(batch, self.ranks.device) for batch in self._load(examples, batches))
        with torch.inference_mode(), self._precision():
            return self.task.evaluate(self.model, loaded, len(numbers), self.ranks)

    def _load(self, examples: Examples, batches: list[list[int]]) -> Iterator[Batch]:
        shares = [share for batch in batches if (share := self.ranks.share(batch))]
        if self.machine.workers == 0:
            return map(examples.__getitems__, shares)
        return iter(
            DataLoader(
                examples, batch_sampler=shares, collate_fn=_as_it_is, num_workers=self.machine.workers, pin_memory=False
            )
        )

    def _set_mode(self, *, training: bool) -> None:
        self.model.train(training)
        self.wrapped.train(training)
        for part in self.regime_parts:
            part.on_mode(training)

    def _precision(self) -> torch.autocast:
        return torch.autocast(
            self.ranks.device.type, torch.bfloat16, enabled=self.trial.protocol.precision == "bfloat16"
        )

    def _decay(self) -> ReduceLROnPlateau | MultiStepLR | CosineAnnealingLR | None:
        protocol, total = self.trial.protocol, self.trial.settings.epochs * self.steps_per_epoch
        self._steps_done = 0
        if any(part.decides_rates for part in self.regime_parts):
            return None
        if protocol.schedule == "steps":
            milestones = [round(share * total) for share in protocol.milestones]
            return MultiStepLR(self.optimizer, milestones, gamma=0.1)
        if protocol.schedule == "cosine":
            return CosineAnnealingLR(self.optimizer, total)
        return ReduceLROnPlateau(self.optimizer, factor=0.1, patience=protocol.plateau_patience)

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "parts": [part.state_dict() for part in self.regime_parts],
            "decay": None if self.decay is None else self.decay.state_dict(),
            "history": vars(self.history),
            "best": self.best,
            "steps_done": self._steps_done,
        }

    def _resume(self, folder: TrialFolder) -> None:
        state = folder.load_checkpoint()
        if state is None:
            return
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            for part, part_state in zip(self.regime_parts, state["parts"], strict=True):
                part.load_state_dict(part_state)
            if self.decay is not None:
                self.decay.load_state_dict(state["decay"])
            self.history = History(**state["history"])
            self.best, self._steps_done = state["best"], state["steps_done"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ExperimentError(
                f"{folder.checkpoint_path} is no checkpoint of this trial ({error}): remove it to start anew"
            ) from error
        self.history.resumed += 1

    def _tensorboard(self) -> Any:
        if self.machine.tensorboard is None or not self.ranks.first:
            return None
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.machine.tensorboard / self.trial.id))

    def _record(self, tested: Outcome) -> dict[str, Any]:
        history = self.history
        best = history.epochs[history.best_epoch - 1]
        result: dict[str, Any] = {
            "metric": self.task.metric,
            "higher_is_better": self.task.higher_is_better,
            "test": tested.metric,
            "test_loss": tested.loss,
            "validation": best["validation_metric"],
            "best_epoch": history.best_epoch,
        }
        if tested.correct is not None:
            result["correct"] = pack_bits(tested.correct)
        if self.corrupt is not None:
            result["wrong_found"] = self._wrong_found()
        groups = self.optimizer.param_groups
        return {
            "status": DONE,
            "result": result,
            "sizes": {
                "train": len(self.parts.train),
                "validation": len(self.parts.validation),
                "test": len(self.parts.test),
            },
            "data": {"source": self.parts.source, "note": self.parts.note},
            "model": {
                "parameters": sum(p.numel() for p in self.model.parameters()),
                "layers": len({group["depth"] for group in groups}),
                "groups": len(groups),
            },
            "epochs": history.epochs,
            "rates": {"steps": history.steps, "first_middle_last": history.rates},
            "steps_per_epoch": self.steps_per_epoch,
            "resumed": history.resumed,
            "ranks": self.ranks.count,
            "device": self.ranks.device.type,
            "environment": environment(),
        }

    def _wrong_found(self) -> float | None:
        """The share of wrong labels among the examples of the highest temperatures, as many as there are wrong ones."""
        assert self.corrupt is not None
        for part in self.regime_parts:
            criterion = getattr(part, "criterion", None)
            if criterion is not None and criterion.num_instances is not None:
                indices = torch.arange(len(self.parts.train), device=self.ranks.device)
                assert self.parts.train.labels is not None
                sigma = criterion.sigma(self.parts.train.labels.to(self.ranks.device), indices).cpu()
                return float(self.corrupt[sigma.topk(int(self.corrupt.sum())).indices].double().mean())
        return None


def pack_bits(values: Tensor) -> str:
    """bool [N] as text."""
    return base64.b64encode(np.packbits(values.numpy()).tobytes()).decode()


def unpack_bits(text: str, count: int) -> np.ndarray:
    """The bool [N] of `pack_bits`."""
    packed = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.unpackbits(packed, count=count).astype(bool)


def _optimizer(trial: Trial, groups: list[dict[str, Any]]) -> Optimizer:
    settings = trial.settings
    options: dict[str, Any] = {"momentum": settings.momentum} if settings.optimizer == "SGD" else {}
    kind: type[Optimizer] = getattr(optim, settings.optimizer)
    return kind(groups, lr=settings.lr, weight_decay=settings.weight_decay, **options)  # type: ignore[call-arg]


def _derived(purpose: str, seed: int) -> int:
    """A seed of its own for each purpose."""
    return int.from_bytes(hashlib.sha256(f"{purpose}, {seed}".encode()).digest()[:7], "big")


def _seed(purpose: str, seed: int) -> None:
    torch.manual_seed(_derived(purpose, seed))


def _to(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    return Batch(_moved(batch.inputs, device), _moved(batch.targets, device), batch.indices)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: _moved(part, device) for name, part in value.items()}
    return [_moved(part, device) for part in value]


def _as_it_is(batch: Any) -> Any:
    return batch
