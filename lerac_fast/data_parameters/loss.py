"""Data parameters: a learned temperature for every class and every training example, at O(batch) a step.

Source: Saxena, Tuzel and DeCoste, "Data Parameters: A New Family of Parameters for Learning a Differentiable
Curriculum", NeurIPS 2019. Where the authors' code does otherwise, that is an option, or said where it is none.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from lerac_fast.data_parameters._checks import (
    check_bounds,
    check_clamp,
    check_integer,
    check_integers,
    check_lengths,
    check_logits,
    check_number,
    check_shard,
    check_sizes,
    check_weight,
)
from lerac_fast.data_parameters._rows import NoteRows, Rows, sum_rows
from lerac_fast.data_parameters._tables import ShardedTables, Tables, laid_out_like, sharded_table, whole_table
from lerac_fast.ops.tempered_cross_entropy import tempered_cross_entropy

_MANY = 100  # backward passes without a step: a step() has been forgotten


class DataParameters(nn.Module):
    """A cross entropy whose logits are divided by learned temperatures: one per class, per example, or their sum.

    In training, `criterion(logits, targets, indices)` returns `cross_entropy(logits / sigma, targets)`, averaged
    over the batch, with sigma = sigma_class[target], sigma_instance[index], or, if there are both, their sum. After the
    backward pass `criterion.step()` updates log sigma of the classes and examples in the batch by SGD with momentum
    and weight decay of its own, and leaves those that were not in it as they are, momentum included. Hard and
    mislabelled examples thus get a high temperature and a small gradient. In evaluation (`criterion.eval()`) it is
    the plain cross entropy, and the indices are not looked at.

    Each step costs O(batch), however many examples there are. The tables take 8 bytes per example.

    Examples:
        >>> criterion = DataParameters(num_classes=10, num_instances=len(dataset), instance_lr=0.2)
        >>> loader = DataLoader(with_indices(dataset), batch_size=64, shuffle=True)
        >>> for images, targets, indices in loader:
        ...     optimizer.zero_grad()
        ...     criterion(model(images), targets, indices).backward()
        ...     optimizer.step()
        ...     criterion.step()

    Args:
        num_classes: give the classes temperatures; None, they have none.
        num_instances: give that many examples temperatures; None, they have none.
        class_lr: learning rate of log sigma of the classes. The paper has 0.1.
        instance_lr: that of the examples. The paper has 0.8 (ImageNet), 0.2 (noisy labels) or 0.1 (detection, with
            `momentum` and `weight_decay` 0).
        momentum: of both.
        weight_decay: of both; it pulls log sigma to 0, and so sigma to 1. It counts once a step for every class and
            example in the batch. In the authors' code it counts for each occurrence, so that a class with n examples
            in the batch decays n times as much.
        class_sigma: initial temperature of the classes.
        instance_sigma: that of the examples; None, 1, or 0.001 if classes have temperatures, too.
        class_gradient: "class_mean", a class's gradient is the average over its examples in the batch (the paper);
            "batch_mean", their sum divided by the size of the batch (the authors' code).
        clamp: (lowest, highest) sigma, imposed after each step on the classes and examples in the batch. The authors'
            code imposes (1/20, 20) on all. None: no bounds, as in the paper.
        label_smoothing: as of `torch.nn.CrossEntropyLoss`.
        ignore_index: as there. Examples with it as their target are not in the batch.
        weight: as there.
        shard: each rank keeps a part of the tables of examples alone, as described below.

    The attributes `class_lr`, `instance_lr`, `momentum`, `weight_decay` and `clamp` are as given; each step reads them
    anew. The tables `class_log_sigma`, `class_momentum`, `instance_log_sigma` and `instance_momentum` are the state
    dict, float32 whatever the model is cast to; None where there are none. They are buffers, out of reach of the
    model's optimizer.

    Gradients accumulate over backward passes up to the step, as those of other parameters do; `zero_grad()` drops them.
    As the loss is an average, divide it by the number of passes: `(criterion(...) / passes).backward()`. Passes over
    batches of equal size then give, to this module and to the model, what one over all of their examples would.

    Distributed: where torch.distributed is initialised, indices are those of the whole data set, losses count as
    averaged over ranks (as DistributedDataParallel has it), and all ranks must call `step()` together. They exchange
    the rows that they have touched, and hold the same bits afterwards. Keep the criterion outside of
    DistributedDataParallel, which would send whole tables.

    With `shard=True` rank r of W keeps b examples from r * b on, where b is num_instances / W rounded up (the last
    parts are shorter, or empty): 8 / W bytes per example. Every value is as without, to the last bit.
    `instance_log_sigma`, `instance_momentum` and `instance_sigma` are DTensors: `to_local()` is this rank's part, and
    `full_tensor()`, which all ranks call together, the whole. torch.distributed.checkpoint saves and loads them on any
    number of ranks, and `load_state_dict` takes tables in parts for whole ones, and the reverse. In training, **each
    call of the criterion is one to the other ranks**, which hold the temperatures of its batch, and so is
    `temperatures()`; `sigma()` always. All ranks must make them together, and as often: a rank that has no examples
    left gives an empty batch. What one rank refuses then raises on all, and nothing has changed. In evaluation, a call
    asks nobody.

    Raises:
        ValueError: arguments that make no sense; the message names the value.
        TypeError: an argument is of the wrong kind.
        RuntimeError: `shard=True` before torch.distributed is initialised.
    """

    class_log_sigma: Tensor | None
    class_momentum: Tensor | None
    instance_log_sigma: Tensor | None
    instance_momentum: Tensor | None
    weight: Tensor | None

    def __init__(
        self,
        num_classes: int | None = None,
        num_instances: int | None = None,
        *,
        class_lr: float = 0.1,
        instance_lr: float = 0.2,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        class_sigma: float = 1.0,
        instance_sigma: float | None = None,
        class_gradient: Literal["class_mean", "batch_mean"] = "class_mean",
        clamp: tuple[float, float] | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        weight: Tensor | None = None,
        shard: bool = False,
    ) -> None:
        super().__init__()
        if instance_sigma is None:
            instance_sigma = 1.0 if num_classes is None else 0.001
        check_sizes(num_classes, num_instances)
        check_weight(weight, num_classes)
        check_integer("ignore_index", ignore_index)
        for name, value, interval in (
            ("class_lr", class_lr, "[0, inf)"),
            ("instance_lr", instance_lr, "[0, inf)"),
            ("momentum", momentum, "[0, 1)"),
            ("weight_decay", weight_decay, "[0, inf)"),
            ("class_sigma", class_sigma, "(0, inf)"),
            ("instance_sigma", instance_sigma, "(0, inf)"),
            ("label_smoothing", label_smoothing, "[0, 1]"),
        ):
            check_number(name, value, interval)
        if class_gradient not in ("class_mean", "batch_mean"):
            raise ValueError(
                f"DataParameters: class_gradient must be 'class_mean' or 'batch_mean', not {class_gradient!r}"
            )
        check_clamp(clamp)
        check_shard(shard, num_instances)
        self.num_classes, self.num_instances = num_classes, num_instances
        self.class_lr, self.instance_lr = class_lr, instance_lr
        self.momentum, self.weight_decay = momentum, weight_decay
        self.class_gradient, self.clamp = class_gradient, clamp
        self.label_smoothing, self.ignore_index = label_smoothing, ignore_index
        self.shard = shard
        self._register_tables("class", num_classes, class_sigma, whole_table)
        self._register_tables("instance", num_instances, instance_sigma, sharded_table if shard else whole_table)
        self.register_buffer("weight", None if weight is None else weight.detach(), persistent=False)
        self._noted: list[dict[str, Rows]] = []  # the gradients of each backward pass since the last step

    def _register_tables(
        self, kind: str, count: int | None, sigma: float, make: Callable[[int, float], Tensor]
    ) -> None:
        table = None if count is None else make(count, math.log(sigma))
        self.register_buffer(f"{kind}_log_sigma", table)
        self.register_buffer(f"{kind}_momentum", None if table is None else torch.zeros_like(table))

    @property
    def _tables(self) -> Tables:
        log_sigma, momentum = (
            {kind: table for kind in ("class", "instance") if (table := self._buffers[f"{kind}_{name}"]) is not None}
            for name in ("log_sigma", "momentum")
        )
        return (ShardedTables if self.shard else Tables)(log_sigma, momentum)

    @property
    def class_sigma(self) -> Tensor | None:
        """The temperature of every class `[num_classes]`, a copy; None without class parameters."""
        return None if self.class_log_sigma is None else self.class_log_sigma.exp()

    @property
    def instance_sigma(self) -> Tensor | None:
        """The temperature of every example `[num_instances]`, a copy; a DTensor with `shard=True`; None without
        instance parameters."""
        return None if self.instance_log_sigma is None else self.instance_log_sigma.exp()

    def sigma(self, targets: Tensor | None = None, indices: Tensor | None = None) -> Tensor:
        """Return the temperatures `[N]` of examples, from their classes and indices, without a gradient.

        Raises:
            ValueError, TypeError: as calling it does.
        """
        tables = self._tables
        with tables.refusing():
            rows = self._rows(targets, indices)
        with torch.no_grad():
            return _total(tables.sigma(rows))

    @_disable_dynamo
    def temperatures(
        self,
        targets: Tensor | None = None,
        indices: Tensor | None = None,
        counted: Tensor | None = None,
        examples: Tensor | float | None = None,
    ) -> Tensor:
        """Return the temperatures `[N]` of examples with a gradient that `step` applies: for other losses than this.

        All examples count as in the batch, with a gradient or without. In evaluation the temperatures are 1, and the
        values of targets and indices are not looked at.

        Examples:
            >>> sigma = criterion.temperatures(indices=boxes)  # detection: matched anchors have those of their boxes,
            >>> sigma = torch.where(matched >= 0, sigma[matched], sigma.detach().mean())  # background has their mean
            >>> loss = tempered_cross_entropy(logits, targets, sigma)

        Args:
            targets: int64 `[N]`; may be left out if classes have no temperatures.
            indices: int64 `[N]`; may be left out if examples have no temperatures.
            counted: bool `[N]`, which of the examples are in the batch; None, all.
            examples: what the loss divides the sum over examples by, for the average over the examples of a class;
                None, how many are in the batch.

        Raises:
            ValueError, TypeError: as calling it does.
        """
        given = indices if targets is None else targets
        if not self.training and given is not None:
            return torch.ones_like(given, dtype=torch.float32)
        with self._refusing():
            rows = self._rows(targets, indices)
        return self._temperatures(self._tables, rows, counted, examples)

    @_disable_dynamo  # a compiled training step calls this as it is: the checks read values, and the hook notes them
    def forward(self, logits: Tensor, targets: Tensor, indices: Tensor | None = None) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            logits: `[N, C]`, floating point. C is `num_classes`, if given.
            targets: int64 `[N]`, from 0 to C - 1, or `ignore_index`.
            indices: int64 `[N]`, from 0 to `num_instances` - 1; not needed without instance parameters.

        Raises:
            ValueError: targets or indices are out of range or of another dtype, indices are missing, or shapes do not
                match. The message names the value, and nothing has changed. With `shard=True`: or another rank has
                refused its batch, or does something else.
            TypeError: an argument is not a tensor.
        """
        if not self.training:
            weight = None if self.weight is None else self.weight.to(logits.dtype)
            return F.cross_entropy(
                logits, targets, weight, ignore_index=self.ignore_index, label_smoothing=self.label_smoothing
            )
        tables = self._tables
        with tables.refusing():
            check_logits(logits, targets, self.num_classes)
            ignored = targets == self.ignore_index
            counted = ~ignored if bool(ignored.any()) else None
            classes = targets if counted is None else targets.masked_fill(ignored, 0)
            if self.num_classes is None:
                check_bounds("targets", classes, logits.shape[1])
            rows = self._rows(classes, indices)
            if "instance" in rows:
                check_lengths("indices", rows["instance"], "targets", targets)
            examples = None
            if self.weight is not None:
                weights = self.weight[classes]
                examples = weights.sum() if counted is None else (weights * counted).sum()
        return tempered_cross_entropy(
            logits,
            targets,
            self._temperatures(tables, rows, counted, examples),
            weight=self.weight,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )

    @_disable_dynamo
    @torch.no_grad()
    def step(self, scaler: torch.amp.GradScaler | None = None) -> None:
        """Update the classes and examples of the batches since the last step.

        Nothing changes if a gradient is infinite or not a number, on any rank. Every rank must call it.

        Args:
            scaler: the GradScaler that scaled the loss, if one did. Call `scaler.update()` afterwards.
        """
        scale = 1.0 if scaler is None else scaler.get_scale()
        tables = self._tables
        touched = tables.collect({kind: self._own_rows(kind, table, scale) for kind, table in tables.log_sigma.items()})
        self._noted.clear()
        changes = {kind: self._changes(kind, rows, *tables.read(kind, rows.rows)) for kind, rows in touched.items()}
        if tables.all_finite(torch.cat([values for both in changes.values() for values in both])):
            for kind, both in changes.items():
                tables.write(kind, touched[kind].rows, *both)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of the backward passes since the last step."""
        super().zero_grad(set_to_none)
        self._noted.clear()

    def _own_rows(self, kind: str, table: Tensor, scale: float) -> Rows:
        """The gradients noted on this rank, each row once."""
        if not self._noted:
            none = table.new_empty(0)
            return Rows(none.long(), none, none)
        rows, gradients, shares = sum_rows([rows[kind] for rows in self._noted])
        # Shares of the average over the passes: a loss divided by their number gives what one whole batch would give.
        return Rows(rows, gradients / scale, shares / len(self._noted))

    def _changes(self, kind: str, touched: Rows, before: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        """SGD with momentum and weight decay on rows that occur once each: their new log sigma and momentum."""
        _, gradient, share = touched
        if kind == "class" and self.class_gradient == "class_mean":
            gradient = gradient / share  # what the class counts for in the loss
        momentum = self.momentum * momentum + (gradient + self.weight_decay * before)
        after = before - (self.class_lr if kind == "class" else self.instance_lr) * momentum
        if self.clamp is not None:
            after = after.clamp(*map(math.log, self.clamp))
        return after, momentum

    def _rows(self, targets: Tensor | None, indices: Tensor | None) -> dict[str, Tensor]:
        """The rows of the examples in each table that there is."""
        found: dict[str, Tensor] = {}
        for kind, name, rows in (("class", "targets", targets), ("instance", "indices", indices)):
            table: Tensor | None = getattr(self, f"{kind}_log_sigma")
            if table is None:
                continue
            if rows is None:
                raise ValueError(
                    f"DataParameters: {name} are missing, and there are {len(table)} temperatures to choose from"
                )
            check_integers(name, rows)
            check_bounds(name, rows, len(table))
            found[kind] = rows.to(table.device, copy=True)  # the caller may write the next batch into it
        if len(found) == 2:
            check_lengths("indices", found["instance"], "targets", found["class"])
        return found

    def _refusing(self) -> AbstractContextManager[None]:
        """Around what may refuse a batch before its temperatures are looked up, which evaluation does not do."""
        return self._tables.refusing() if self.training else nullcontext()

    def _temperatures(
        self, tables: Tables, rows: dict[str, Tensor], counted: Tensor | None, examples: Tensor | float | None
    ) -> Tensor:
        sigmas = tables.sigma(rows)
        total = _total(sigmas)
        if torch.is_grad_enabled():
            if len(self._noted) == _MANY:
                warnings.warn(
                    f"DataParameters: {_MANY} backward passes without a step; call criterion.step() after each, or "
                    "criterion.zero_grad() to drop their gradients",
                    UserWarning,
                    stacklevel=3,
                )
            total = total.detach().requires_grad_()  # another tensor than those that its hook holds: no cycle
            total.register_hook(NoteRows(self._noted, rows, sigmas, counted, examples))
        return total

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DataParameters:
        """Tables go where the module goes, and stay float32."""

        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        super()._apply(moved, recurse)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Tables may have been saved whole or in parts."""
        for name, table in self.named_buffers(recurse=False):
            if prefix + name in state_dict:
                state_dict[prefix + name] = laid_out_like(table, state_dict[prefix + name])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        parts = []
        if self.num_classes is not None:
            parts.append(f"num_classes={self.num_classes}, class_lr={self.class_lr:g}")
        if self.num_instances is not None:
            parts.append(f"num_instances={self.num_instances}, instance_lr={self.instance_lr:g}")
        parts.append(f"momentum={self.momentum:g}, weight_decay={self.weight_decay:g}")
        return ", ".join([*parts, "shard=True"] if self.shard else parts)


def _total(sigmas: dict[str, Tensor]) -> Tensor:
    first, *second = sigmas.values()
    return first + second[0] if second else first
