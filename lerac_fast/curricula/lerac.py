"""LeRaC, the learning rate curriculum, as a scheduler that sets each group's `lr`; `schedule` has the formulas."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lerac_fast.curricula.plots import plot_lerac
from lerac_fast.curricula.schedule import CURVES, CURVES_FROM_ZERO, depth_ranks, geometric_ratios, lerac_factors
from lerac_fast.curricula.snr import signal_to_noise, snr_ratios

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LeRaC(LRScheduler):
    """Learning rate curriculum: layers start at rates that fall with depth, and reach the full rate together.

    The rate of group j rises from eta_j(0) at step 0 to its base rate at step k, and is left alone from there
    on (Croitoru et al., "Learning Rate Curriculum", Eqs. 6-8). Call `step()` once per optimizer step.

    .. warning:: Mind the direction. LeRaC gives the INPUT side the LARGER rate. It is the reverse of the
       layer-wise learning rate decay of fine-tuning, which favours the layers near the output.

    Example:
        >>> optimizer = SGD(layer_groups(model), lr=0.1, momentum=0.9)
        >>> curriculum = LeRaC(optimizer, total_iters=5 * len(loader), min_lr=1e-8)
        >>> for inputs, targets in batches:
        ...     optimizer.zero_grad()
        ...     criterion(model(inputs), targets).backward()
        ...     optimizer.step()
        ...     curriculum.step()

    Args:
        optimizer: any torch optimizer, with one param group per layer. A group's `depth` says how far it is
            from the input; without that key the groups count in their order (`depth_ranks`). A tensor `lr`
            that groups share, as in `SGD(groups, lr=tensor)`, is replaced by one for each but the first.
        total_iters: k, in optimizer steps. 0 is conventional training.
        min_lr: the initial rate at the greatest depth. Between the ends, rates are spaced geometrically.
        max_lr: the initial rate at the least depth. Default: the base rate.
        initial_lrs: one initial rate per param group, in their order, instead of `min_lr` and `max_lr`.
            `LeRaC.from_snr` measures some.
        curve: how the rates rise, one of `CURVES` (`lerac_factors`).
        last_epoch: to resume without this scheduler's state: the number of steps done less 1, with the
            optimizer's state loaded already. As in torch's schedulers.

    The base rate of a group is its own `lr` (its `initial_lr`, if another scheduler came first), and LeRaC is
    a factor on it. Where base rates differ, `min_lr` and `max_lr` are the ends for a group with the largest
    base rate, and the others start lower in proportion; `initial_lrs` are the very rates of their groups.

    Together with other schedulers:
        - `SequentialLR([curriculum, scheduler], milestones=[k])` takes any scheduler. Create LeRaC first.
          (`MultiplicativeLR` alone takes up the rate it finds rather than the base rate: give it `[k + 1]`.)
        - Schedulers that multiply the rate (`StepLR`, `MultiStepLR`, `ExponentialLR`, `LinearLR`,
          `CosineAnnealingLR` with `eta_min=0`, ...) can run at the same time, in a `ChainedScheduler` or
          beside it, per step or per epoch.
        - Schedulers that set the rate or add to it (`LambdaLR`, `OneCycleLR`, `CosineAnnealingLR` with
          `eta_min > 0`, ...) can run at the same time if they are stepped within
          `with curriculum.base_rates():`. Create LeRaC last.
        - `ReduceLROnPlateau` would take the curriculum for a plateau: step it `if curriculum.finished`.

    Raises:
        ValueError: if `total_iters` is not an integer >= 0; if an initial rate is negative, NaN, above the
            base rate, or zero with a curve other than "linear" or "cosine"; if `min_lr` exceeds `max_lr`; if
            not exactly one of `min_lr` and `initial_lrs` is given; if `initial_lrs` is of the wrong length;
            if `curve` is unknown; if only some groups have a `depth`. The optimizer is then as it was before.
        RuntimeError: by `step()`, if a rate was set to what cannot be a multiple of the rate LeRaC left.

    Warns with UserWarning if no rate is lowered (a single layer, say), or if `initial_lrs` rise with depth.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int,
        min_lr: float | None = None,
        *,
        max_lr: float | None = None,
        initial_lrs: Sequence[float] | None = None,
        curve: str = "exponential",
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(total_iters, int) or isinstance(total_iters, bool) or total_iters < 0:
            raise ValueError(f"total_iters={total_iters!r} must be an integer >= 0, in optimizer steps")
        if curve not in CURVES:
            raise ValueError(f"curve={curve!r} is unknown: choose one of {', '.join(CURVES)}")
        base_lrs = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        ranks = depth_ranks(optimizer.param_groups)
        if initial_lrs is None:
            ratios = _ratios_between(min_lr, max_lr, max(base_lrs), ranks, curve)
        elif min_lr is None and max_lr is None:
            ratios = _ratios_of(initial_lrs, base_lrs, curve)
            _warn_if_rising(ratios, ranks)
        else:
            raise ValueError(f"give either initial_lrs or min_lr={min_lr!r} and max_lr={max_lr!r}, not both")
        if total_iters > 0 and min(ratios) == 1.0:
            warnings.warn(
                f"LeRaC has nothing to do: {len(ranks)} param group(s) at {max(ranks) + 1} distinct depth(s) "
                "start at their base rates. It needs a param group per layer and a rate below theirs.",
                UserWarning,
                stacklevel=2,
            )

        self.total_iters = total_iters
        self.curve = curve
        self.ratios = ratios
        # The rates that the groups would have without LeRaC. Each step computes `lr` from them, in place of
        # multiplying it by s(l) / s(l - 1), so that rounding does not build up and step k restores every bit.
        self._full_lrs = base_lrs
        _unshare_lrs(optimizer.param_groups)
        super().__init__(optimizer, last_epoch)

    @classmethod
    def from_snr(
        cls,
        optimizer: Optimizer,
        total_iters: int,
        model: nn.Module,
        inputs: Any,
        min_lr: float | None = None,
        *,
        curve: str = "exponential",
        last_epoch: int = -1,
    ) -> LeRaC:
        """Return a LeRaC whose initial rates are in proportion to each layer's measured signal-to-noise ratio.

        `snr.signal_to_noise` measures that of `model`, at its initial weights, on a batch of real `inputs`. At depth
        d, the initial rate is the base rate times the ratio at d over that at the first depth, never rising with
        depth (`snr.snr_ratios`). With `min_lr`, the curve is stretched in the logarithm so that the deepest layers
        start there, and the measurement decides the spacing alone.

        Everything else is as in LeRaC with these `initial_lrs`. To resume, load its state: with `last_epoch` the
        ratios of trained weights would be measured.
        """
        groups = optimizer.param_groups
        base_lrs = [float(group.get("initial_lr", group["lr"])) for group in groups]
        lowest = None if min_lr is None else _ratio("min_lr", min_lr, max(base_lrs), curve)
        ratios = snr_ratios(signal_to_noise(model, inputs, groups), groups, lowest)
        initial_lrs = [base * ratio for base, ratio in zip(base_lrs, ratios, strict=True)]
        return cls(optimizer, total_iters, initial_lrs=initial_lrs, curve=curve, last_epoch=last_epoch)

    @property
    def finished(self) -> bool:
        """Whether step `total_iters` has been reached, from which on LeRaC leaves every rate alone.

        A SequentialLR with `milestones=[total_iters]` stops stepping LeRaC just before, and it stays False.
        """
        return self.last_epoch >= self.total_iters

    def get_lr(self) -> list[float | Tensor]:
        """Return every group's rate at step `last_epoch`. Only `step()` may call it."""
        if not self._get_lr_called_within_step:
            warnings.warn("To get the rates last set, use `get_last_lr()`.", UserWarning, stacklevel=2)
            return self.get_last_lr()
        groups = self.optimizer.param_groups
        if self.last_epoch > self.total_iters:  # after the curriculum, read no tensor back from its device
            return [group["lr"] for group in groups]
        if self.last_epoch == 0:
            # A group at its `initial_lr` is taken to be at its base rate, even if those differ: SequentialLR
            # starts its first scheduler from `initial_lr`, which OneCycleLR's constructor has overwritten.
            self._full_lrs = [
                float(base if group["lr"] == group["initial_lr"] else group["lr"])
                for group, base in zip(groups, self.base_lrs, strict=True)
            ]
        elif self._step_count == 1:  # resumed by `last_epoch`: the groups hold the rates of this step already
            self._left_lrs = [float(group["lr"]) for group in groups]
            self._full_lrs = [
                base if math.isclose(lr, base * factor, rel_tol=1e-6) else lr / factor
                for lr, base, factor in zip(self._left_lrs, self._full_lrs, self._factors(), strict=True)
            ]
            return [group["lr"] for group in groups]
        else:
            self._take_up_changes()
        return self._lowered_lrs()

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        # Called by torch: by SequentialLR to start any scheduler but its first, and by `step(epoch)`.
        self._full_lrs = [float(base) for base in self.base_lrs]
        return self._lowered_lrs()

    @contextmanager
    def base_rates(self) -> Iterator[None]:
        """Within the block every group's `lr` is what it would be without LeRaC, and may be changed at will.

        For schedulers that set the rate or add to it, where LeRaC can only make out a change by a factor:

            >>> with curriculum.base_rates():
            ...     scheduler.step()
        """
        if self.finished:
            yield
            return
        self._take_up_changes()
        groups = self.optimizer.param_groups
        for group, full in zip(groups, self._full_lrs, strict=True):
            _set_lr(group, full)
        try:
            yield
        finally:
            self._full_lrs = [float(group["lr"]) for group in groups]
            self._last_lr = self._lowered_lrs()
            for group, lr in zip(groups, self._left_lrs, strict=True):
                _set_lr(group, lr)

    def plot(self) -> Figure:
        """Draw the rate of every group over the steps (`plots.plot_lerac`). Needs the extra `plot`.

        What other schedulers do is left out. The curriculum is only read.
        """
        base_lrs = [float(base) for base in self.base_lrs]
        return plot_lerac(self.optimizer.param_groups, base_lrs, self.ratios, self.total_iters, self.curve)

    def _factors(self) -> list[float]:
        return lerac_factors(self.ratios, self.last_epoch, self.total_iters, self.curve)

    def _lowered_lrs(self) -> list[float | Tensor]:
        """Return the rates to set at step `last_epoch`, and remember them as the groups will hold them."""
        self._left_lrs = [
            _as_held(group["lr"], full * factor)
            for group, full, factor in zip(self.optimizer.param_groups, self._full_lrs, self._factors(), strict=True)
        ]
        return [*self._left_lrs]

    def _take_up_changes(self) -> None:
        """Take up into the full rates what others did to the groups' rates since LeRaC left them."""
        lrs = [float(group["lr"]) for group in self.optimizer.param_groups]
        full_lrs = []
        for j, (lr, left, full) in enumerate(zip(lrs, self._left_lrs, self._full_lrs, strict=True)):
            if lr == left:
                full_lrs.append(full)
            elif left in (full, 0.0):  # a factor of 1 needs no division; of 0, there are no multiples
                full_lrs.append(lr)
            else:
                full_lrs.append(full * (lr / left))
                # A rate that was set, not multiplied, would go on from there to grow by up to 1 / ratio.
                if full_lrs[j] > 1.01 * max(full, float(self.base_lrs[j])):
                    raise RuntimeError(
                        f"LeRaC left param group {j} at lr={left:g} and finds lr={lr:g}. As a factor, that "
                        f"makes its base rate {full_lrs[j]:g}. Step schedulers that set the rate (LambdaLR, "
                        "OneCycleLR, ...) within `with curriculum.base_rates():`, or after LeRaC in a "
                        "SequentialLR. From a checkpoint, load LeRaC's state as well as the optimizer's."
                    )
        self._full_lrs, self._left_lrs = full_lrs, lrs


def _ratios_between(
    min_lr: float | None, max_lr: float | None, base_lr: float, ranks: Sequence[int], curve: str
) -> list[float]:
    if min_lr is None:
        raise ValueError("give min_lr, the initial rate of the deepest layer, or initial_lrs, one per group")
    highest = 1.0 if max_lr is None else _ratio("max_lr", max_lr, base_lr, curve)
    lowest = _ratio("min_lr", min_lr, base_lr, curve)
    if lowest > highest:
        raise ValueError(f"min_lr={min_lr!r} exceeds max_lr={max_lr!r}: the input side gets the larger rate")
    return geometric_ratios(ranks, lowest, highest)


def _ratios_of(initial_lrs: Sequence[float], base_lrs: Sequence[float], curve: str) -> list[float]:
    if len(initial_lrs) != len(base_lrs):
        raise ValueError(f"initial_lrs has {len(initial_lrs)} rates for {len(base_lrs)} param groups")
    return [
        _ratio(f"initial_lrs[{j}]", initial, base, curve)
        for j, (initial, base) in enumerate(zip(initial_lrs, base_lrs, strict=True))
    ]


def _ratio(name: str, initial_lr: float, base_lr: float, curve: str) -> float:
    # NaN fails the comparison too. The margin is for a base rate that a float32 tensor `lr` has rounded down.
    if not 0.0 <= initial_lr <= base_lr * (1.0 + 1e-6):
        raise ValueError(f"{name}={initial_lr!r} must be neither negative nor above the base rate, {base_lr!r}")
    ratio = min(1.0, initial_lr / base_lr) if base_lr > 0.0 else 1.0  # a group frozen with lr=0 stays frozen
    if ratio == 0.0 and curve not in CURVES_FROM_ZERO:
        raise ValueError(
            f"{name}={initial_lr!r}: the {curve} curve cannot start at zero. Start at a small rate such as "
            f"1e-8, or choose {' or '.join(CURVES_FROM_ZERO)}"
        )
    return ratio


def _warn_if_rising(ratios: Sequence[float], ranks: Sequence[int]) -> None:
    # Within one depth in falling order, so that only a rise from one depth to the next counts.
    by_depth = sorted(zip(ranks, ratios, strict=True), key=lambda pair: (pair[0], -pair[1]))
    if any(deeper > shallower for (_, shallower), (_, deeper) in pairwise(by_depth)):
        warnings.warn(
            "initial_lrs rise with depth, against Eq. 6 of the paper: LeRaC gives the input side the larger "
            "rate, the reverse of layer-wise learning rate decay.",
            UserWarning,
            stacklevel=3,
        )


def _unshare_lrs(param_groups: Sequence[dict[str, Any]]) -> None:
    """Give each group a tensor `lr` of its own: torch's optimizers hand the same one to all groups."""
    seen = set()
    for group in param_groups:
        if isinstance(group["lr"], Tensor):
            if id(group["lr"]) in seen:
                group["lr"] = group["lr"].clone()
            seen.add(id(group["lr"]))


def _as_held(held: float | Tensor, lr: float) -> float:
    """Return `lr` as a group will hold it whose rate is `held`: rounded, if that is a tensor."""
    return torch.tensor(lr, dtype=held.dtype).item() if isinstance(held, Tensor) else lr


def _set_lr(group: dict[str, Any], lr: float) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)  # in place: compiled and capturable optimizers hold on to the tensor
    else:
        group["lr"] = lr
