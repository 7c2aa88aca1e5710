"""LeRaC, the learning rate curriculum, as a scheduler that sets each group's `lr`; `schedule` has the formulas."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import is_
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lerac_fast.lerac._arguments import checked_ratios
from lerac_fast.lerac._plot import plot_lerac
from lerac_fast.lerac._rates import (
    TORCH_SHARES_LRS,
    as_held,
    base_rates_of,
    copied_lrs,
    find_groups,
    hold_the_very,
    rates_of,
    set_lrs,
    summary_of,
    unshare_lrs,
)
from lerac_fast.lerac._repeats import Repeats
from lerac_fast.lerac._state import PER_GROUP, load_state, state_of
from lerac_fast.lerac.schedule import (
    STARTS_LOWERED,
    depth_ranks,
    fall_with_ratios,
    lerac_factors,
    ratio_of,
    refuse_another_step,
    take_up,
)
from lerac_fast.lerac.snr import signal_to_noise, snr_ratios

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LeRaC(LRScheduler):
    """Learning rate curriculum: layers start at rates that fall with depth, and reach the full rate together.

    The rate of group j rises from eta_j(0) at step 0 to its base rate at step k, and is left alone from there
    on (Croitoru et al., "Learning Rate Curriculum", Eqs. 6-8). Call `step()` once per optimizer step.

    Warning:
        Mind the direction. LeRaC gives the INPUT side the LARGER rate. It is the reverse of the
        layer-wise learning rate decay of fine-tuning, which favours the layers near the output.

    Examples:
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
            that groups share, as in `SGD(groups, lr=tensor)`, is replaced by one for each but the first, and
            by one for groups to come.
        total_iters: k, in optimizer steps. 0 is conventional training.
        min_lr: the initial rate at the greatest depth. Between the ends, rates are spaced geometrically.
        max_lr: the initial rate at the least depth. Default: the base rate.
        initial_lrs: one initial rate per param group, in their order, instead of `min_lr` and `max_lr`.
            `LeRaC.from_snr` measures some.
        depths: with `min_lr`, the depths of the whole model, if the optimizer has a part of it: a pipeline stage, or
            one parameter. Its groups start where they do in a LeRaC of the whole, if that has these depths and base
            rates: `depths=order.values()`, where `order` of `layer_order` has made the groups too.
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
        - A change of `lr` by others, outside of `base_rates()`, is taken for a factor. Groups may have factors
          of their own, up to ten times apart. What cannot be a factor is refused (`schedule.take_up`).
        - A scheduler that Accelerate prepares is called once per process for each step of the optimizer. LeRaC takes
          these calls for one, so that k is in optimizer steps there, too. In a `SequentialLR` it counts them all, as
          milestones do: multiply both by `num_processes`, or do not prepare that one and step it yourself.

    Checkpoints:
        Save and load the states of the optimizer and of LeRaC, both of the same moment. It does not matter in
        which order the two are built and loaded: each state has the rates of the groups, and the training goes on
        to the bit. The state of one without the other's is refused by the next `step()`.

    Groups that come and go:
        A group that is added later (`add_param_group`, progressive unfreezing) keeps the rate that it is given
        and is none of LeRaC's, which has its groups from the constructor. They go on as if alone, wherever they
        are in the optimizer's list, and those that are removed are forgotten. Load a state into an optimizer
        with as many groups as it was taken with.

    Raises:
        ValueError: if `total_iters` is not an integer >= 0; if an initial rate is negative, NaN, above the
            base rate, or zero with a curve other than "linear" or "cosine"; if `min_lr` exceeds `max_lr`; if
            not exactly one of `min_lr` and `initial_lrs` is given; if `initial_lrs` is of the wrong length;
            if `curve` is unknown; if only some groups have a `depth`, or one that `depths` lack. The optimizer is then
            as it was before.
        RuntimeError: by `step()` and `base_rates()`, or by the constructor with `last_epoch`, which then leave
            everything as it was: if rates were set to what cannot be multiples of those LeRaC left; if they are
            those of another step, as of an optimizer whose state was loaded without LeRaC's; if none of its
            groups is left. By the first `step()`: if it was built in the middle of another curriculum.

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
        depths: Iterable[int] | None = None,
        curve: str = "exponential",
        last_epoch: int = -1,
    ) -> None:
        groups = optimizer.param_groups
        ratios, lowest = checked_ratios(groups, total_iters, min_lr, max_lr, initial_lrs, depths, curve)
        self.total_iters, self.curve = total_iters, curve
        self.ratios, self._lowest_ratio = ratios, lowest
        # The rates that the groups would have without LeRaC. Each step computes `lr` from them, in place of
        # multiplying it by s(l) / s(l - 1), so that rounding does not build up and step k restores every bit.
        self._full_lrs = base_rates_of(groups)
        # Its groups as it saw them last, and where: the optimizer's list of groups may change.
        self._list, self._groups, self._positions = groups, [*groups], [*range(len(groups))]
        self._starts_lowered = False
        self._repeats = Repeats()
        unshare_lrs(optimizer)
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
        depth (`snr.snr_ratios`). With `min_lr`, the curve is stretched in the logarithm so that the lowest layers
        start there, and the measurement decides the spacing alone.

        Everything else is as in LeRaC with these `initial_lrs`. To resume, load its state, which has the ratios, into
        any LeRaC of the optimizer: with `last_epoch` those of trained weights would be measured. In several processes
        give all the same inputs, or their rates differ, and their models with them.
        """
        groups, base_lrs = optimizer.param_groups, base_rates_of(optimizer.param_groups)
        lowest = None if min_lr is None else ratio_of("min_lr", min_lr, max(base_lrs), curve)
        ratios = snr_ratios(signal_to_noise(model, inputs, groups), groups, lowest)
        initial_lrs = [base * ratio for base, ratio in zip(base_lrs, ratios, strict=True)]
        return cls(optimizer, total_iters, initial_lrs=initial_lrs, curve=curve, last_epoch=last_epoch)

    @property
    def finished(self) -> bool:
        """Whether step `total_iters` has been reached, from which on LeRaC leaves every rate alone.

        A SequentialLR with `milestones=[total_iters]` stops stepping LeRaC just before, and it stays False.
        """
        return self.last_epoch >= self.total_iters

    def _may_go_on(self) -> bool:
        """Whether the optimizer's groups are LeRaC's, all of them in their order, and hold the very objects that it has
        put there as their rates. Once it has finished, a look at the list and its ends must do."""
        groups, known = self.optimizer.param_groups, self._groups
        if not known or len(groups) != len(known) or self._starts_lowered or type(self).get_lr is not LeRaC.get_lr:
            return False
        if self.finished:
            return groups is self._list and groups[0] is known[0] and groups[-1] is known[-1]
        return all(map(is_, groups, known)) and hold_the_very(groups, self._left_lrs)

    def _go_on(self) -> None:
        """Set the rates of step `last_epoch` where the last ones were left alone."""
        pairs = zip(self._full_lrs, self._factors(self.last_epoch), strict=True)
        self._left_lrs = [full * factor for full, factor in pairs]
        for group, lr in zip(self._groups, self._left_lrs, strict=True):
            group["lr"] = lr
        self._last_lr = [*self._left_lrs]

    @property
    def _last_lr(self) -> list[float | Tensor]:
        """What `get_last_lr()` returns: the rates that the last step has set, and once `finished` those of now."""
        return copied_lrs(self.optimizer.param_groups) if self.finished else self._lrs_of_last_step

    @_last_lr.setter
    def _last_lr(self, lrs: list[float | Tensor]) -> None:
        self._lrs_of_last_step = lrs

    def get_lr(self) -> list[float | Tensor]:
        """Return every group's rate at step `last_epoch`. Only `step()` may call it."""
        if not self._get_lr_called_within_step:
            warnings.warn("To get the rates last set, use `get_last_lr()`.", UserWarning, stacklevel=2)
            return self.get_last_lr()
        if self.last_epoch == 0:
            self._start()
            return self._lowered_lrs()
        try:
            if self._repeats.has(self.optimizer):
                self._take_back_step()
            elif self._step_count == 1:
                self._resume()
            elif self.last_epoch <= self.total_iters:
                if self._starts_lowered:
                    raise RuntimeError(STARTS_LOWERED)
                self._take_up_changes()
                return self._lowered_lrs()
            else:  # after the curriculum, read no tensor back from its device
                self._follow_groups()
        except RuntimeError:
            self._take_back_step()
            raise
        return [group["lr"] for group in self.optimizer.param_groups]

    def _take_back_step(self) -> None:
        """As if it had not been asked for."""
        self.last_epoch -= 1
        self._step_count -= 1

    def _update_lr(self, epoch: int | None = None) -> None:
        # By the short way where it leads to the same: for hundreds of groups, torch's takes longer than their update.
        if epoch is not None or self._step_count < 2 or not self._may_go_on():
            super()._update_lr(epoch)
            self._last_lr = copied_lrs(self.optimizer.param_groups) if TORCH_SHARES_LRS else self._last_lr
        elif self._repeats.has(self.optimizer):
            self._step_count -= 1
        else:
            self.last_epoch += 1
            if self.last_epoch <= self.total_iters:
                self._go_on()

    def _start(self) -> None:
        """Take the full rates of step 0 from the groups."""
        self._follow_groups(any_lr=True)
        # A group at its `initial_lr` is taken to be at its base rate, even if those differ: SequentialLR
        # starts its first scheduler from `initial_lr`, which OneCycleLR's constructor has overwritten.
        self._full_lrs = [
            float(base if group["lr"] == group["initial_lr"] else group["lr"])
            for group, base in zip(self._groups, self.base_lrs, strict=True)
        ]
        lowered = fall_with_ratios(self.ratios, self._full_lrs, [float(base) for base in self.base_lrs])
        self._starts_lowered = self.total_iters > 0 and lowered

    def _resume(self) -> None:
        """Take the full rates from groups that hold the rates of this step already, as `last_epoch` says."""
        lrs = rates_of(self._groups)
        expected = [base * factor for base, factor in zip(self._full_lrs, self._factors(self.last_epoch), strict=True)]
        refuse_another_step(self.ratios, lrs, expected)
        self._left_lrs = [
            lr if math.isclose(lr, left, rel_tol=1e-6) else left for lr, left in zip(lrs, expected, strict=True)
        ]
        self._take_up_changes()

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        # Called by torch: by SequentialLR to start any scheduler but its first, and by `step(epoch)`.
        self._follow_groups(any_lr=True)
        self._full_lrs = [float(base) for base in self.base_lrs]
        self._starts_lowered = False
        return self._lowered_lrs()

    @contextmanager
    def base_rates(self) -> Iterator[None]:
        """Within the block every group's `lr` is what it would be without LeRaC, and may be changed at will.

        For schedulers that set the rate or add to it, where LeRaC can only make out a change by a factor. Groups that
        were added after LeRaC are left alone:

            >>> with curriculum.base_rates():
            ...     scheduler.step()
        """
        if self.finished:
            yield
            return
        self._take_up_changes()
        self._starts_lowered = False
        set_lrs(self._groups, self._full_lrs)
        try:
            yield
        finally:
            self._follow_groups(any_lr=True)
            self._full_lrs = rates_of(self._groups)
            self._lowered_lrs()
            set_lrs(self._groups, self._left_lrs)
            self._last_lr = copied_lrs(self.optimizer.param_groups)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers and lists, with the rates that the groups hold now."""
        return state_of(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, and set the rates of the groups to those of the moment when it was taken.

        So this scheduler and the state of its optimizer can be made and loaded in any order. As in torch's schedulers,
        what is loaded takes the place of what the constructor was given: `total_iters`, the curve and the initial
        rates, and which of the groups are LeRaC's.

        Raises ValueError, and changes nothing, if that is not the state of a LeRaC, or of other param groups in number.
        """
        load_state(self, state_dict)

    def summary(self) -> dict[str, float]:
        """Return a few numbers to log, where one curve for each group would be too many.

            writer.add_scalars("lerac", curriculum.summary(), step)

        `input_lr`, `middle_lr` and `output_lr` are the rates that the groups hold which are first, in the middle and
        last by depth. Other schedulers count in them. `at_base_rate` is the share of the groups, from 0 to 1, that
        LeRaC no longer holds below their base rates. It stays below 1 where `finished` stays False, in a
        SequentialLR.

        Three rates are read, no more. As `step()`, it raises RuntimeError if none of its groups is left.
        """
        found, factors = self._find_groups(), self._factors(self.last_epoch)
        groups = [self.optimizer.param_groups[i] for i, _ in found]
        return summary_of(groups, depth_ranks(groups), [factors[j] for _, j in found])

    def plot(self) -> Figure:
        """Draw the rate of every group over the steps (`plots.plot_lerac`). Needs the extra `plot`.

        What other schedulers do is left out. The curriculum is only read.
        """
        found = self._find_groups()
        groups = [self.optimizer.param_groups[i] for i, _ in found]

        def rates_at(step: int) -> list[float]:
            factors = self._factors(step)
            return [float(self.base_lrs[j]) * factors[j] for _, j in found]

        return plot_lerac(groups, rates_at, self.total_iters, self.curve)

    def _factors(self, step: int) -> list[float]:
        # The lowest ratio decides on the events of "decades", even if its group has been removed.
        return lerac_factors(self.ratios, step, self.total_iters, self.curve, self._lowest_ratio)

    def _lowered_lrs(self) -> list[float | Tensor]:
        """Return the rates of all groups at step `last_epoch`, and remember LeRaC's as the groups will hold them."""
        self._left_lrs = [
            as_held(group["lr"], full * factor)
            for group, full, factor in zip(self._groups, self._full_lrs, self._factors(self.last_epoch), strict=True)
        ]
        lrs = [group["lr"] for group in self.optimizer.param_groups]
        for position, lr in zip(self._positions, self._left_lrs, strict=True):
            lrs[position] = lr
        return lrs

    def _take_up_changes(self) -> None:
        """Take up into the full rates what others did to the groups' rates since LeRaC left them."""
        self._follow_groups()
        lrs, base_lrs = rates_of(self._groups), [float(base) for base in self.base_lrs]
        self._full_lrs, self._left_lrs = take_up(lrs, self._left_lrs, self._full_lrs, base_lrs), lrs

    def _find_groups(self) -> list[tuple[int, int]]:
        """Its groups in the optimizer's list: (i, j) where the optimizer's group i is LeRaC's group j."""
        found = find_groups(self._groups, self.optimizer.param_groups)
        if not found:
            raise RuntimeError("the optimizer has none of the param groups that LeRaC knows: build another LeRaC")
        return found

    def _follow_groups(self, any_lr: bool = False) -> None:
        """Follow what was done to the optimizer's list of groups: some may be new, gone or replaced. These are to have
        the rates that they had, or any if `any_lr`."""
        groups = self._list = self.optimizer.param_groups
        if all(i < len(groups) and groups[i] is group for i, group in zip(self._positions, self._groups, strict=True)):
            return
        found = self._find_groups()
        if not any_lr:
            pairs = [(self.ratios[j], groups[i]["lr"], self._groups[j]["lr"]) for i, j in found]
            refuse_another_step(*([float(value) for value in values] for values in zip(*pairs, strict=True)))
        for name in PER_GROUP:
            setattr(self, name, [getattr(self, name)[j] for _, j in found])
        self._groups, self._positions = [groups[i] for i, _ in found], [i for i, _ in found]
        unshare_lrs(self.optimizer)
