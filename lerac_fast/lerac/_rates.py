"""Param groups as a scheduler of learning rates deals with them: their rates, and which of them it knows."""

from collections.abc import Sequence
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

Group = dict[str, Any]

TORCH_SHARES_LRS = not hasattr(lr_scheduler, "_param_groups_val_list")
"""Whether torch's `get_last_lr()` gives the tensors of the groups themselves, as torch 2.9 does, and not copies."""


def find_groups(known: Sequence[Group], groups: Sequence[Group]) -> list[tuple[int, int]]:
    """Return the pairs (i, j) where `groups[i]` is `known[j]`, in the order of `groups`.

    A group is known by its dict, whatever parameters it holds by now, or by any of its parameters: to load the state
    of an optimizer is to put other dicts in the place of its groups. If all have other dicts and other parameters (to
    shard a model, Accelerate does both), they are the same if each has the labels of the one in its place.
    """
    index = {id(parameter): j for j, group in enumerate(known) for parameter in group["params"]}
    index |= {id(group): j for j, group in enumerate(known)}
    found = []
    for i, group in enumerate(groups):
        j = next((index[key] for key in map(id, (group, *group["params"])) if key in index), None)
        if j is not None:
            found.append((i, j))
    if not found and [*map(_labels, groups)] == [*map(_labels, known)]:
        return [(i, i) for i in range(len(groups))]
    return found


def _labels(group: Group) -> tuple[Any, ...]:
    """What stays of a group, and which none has that has not had a scheduler."""
    base_lr = float(group["initial_lr"]) if "initial_lr" in group else None
    return group.get("name"), group.get("depth"), base_lr, len(group["params"])


def base_rates_of(groups: Sequence[Group]) -> list[float]:
    """Return the base rate of each group: its `lr`, or its `initial_lr` if a scheduler came first."""
    return [float(group["initial_lr"] if "initial_lr" in group else group["lr"]) for group in groups]


def rates_of(groups: Sequence[Group]) -> list[float]:
    """Return the rate of each group."""
    return [float(group["lr"]) for group in groups]


def hold_the_very(groups: Sequence[Group], lrs: Sequence[float]) -> bool:
    """Return whether these groups hold these very objects as their rates, which nobody has touched then."""
    return all(map(is_, map(itemgetter("lr"), groups), lrs))


def unshare_lrs(optimizer: Optimizer) -> None:
    """Give each group a tensor `lr` of its own: torch's optimizers hand the same one to all groups.

    The first group keeps it, and the optimizer's default, which a group that is added later gets, becomes a copy.
    """
    seen = set()
    for holder in (*optimizer.param_groups, optimizer.defaults):
        if isinstance(holder.get("lr"), Tensor):
            if id(holder["lr"]) in seen:
                holder["lr"] = holder["lr"].clone()
            seen.add(id(holder["lr"]))


def as_held(held: float | Tensor, lr: float) -> float:
    """Return `lr` as a group will hold it whose rate is `held`: rounded, if that is a tensor."""
    return torch.tensor(lr, dtype=held.dtype).item() if isinstance(held, Tensor) else lr


def of_the_kind(held: float | Tensor, lr: float) -> float | Tensor:
    """Return `lr` as a value of its own of the kind of `held`."""
    return torch.full_like(held, lr) if isinstance(held, Tensor) else lr


def copied_lrs(groups: Sequence[Group]) -> list[float | Tensor]:
    """Return the rates of groups, in which no tensor is that of a group."""
    return [group["lr"].clone() if isinstance(group["lr"], Tensor) else group["lr"] for group in groups]


def set_lr(group: Group, lr: float) -> None:
    """Set the rate of a group."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)  # in place: compiled and capturable optimizers hold on to the tensor
    else:
        group["lr"] = lr


def set_lrs(groups: Sequence[Group], lrs: Sequence[float]) -> None:
    """Set the rate of each group."""
    for group, lr in zip(groups, lrs, strict=True):
        set_lr(group, lr)


def summary_of(groups: Sequence[Group], ranks: Sequence[int], factors: Sequence[float]) -> dict[str, float]:
    """Return the rates of the first, the middle and the last group by depth, and the share of groups with factor 1.

    Up to rounding: 10 times 0.1 need not be 1, if 0.1 comes of a division.
    """
    ordered = [groups[i] for i in sorted(range(len(groups)), key=ranks.__getitem__)]
    chosen = {"input_lr": ordered[0], "middle_lr": ordered[len(ordered) // 2], "output_lr": ordered[-1]}
    at_base_rate = sum(factor > 1.0 - 1e-6 for factor in factors) / len(factors)
    return {**{name: float(group["lr"]) for name, group in chosen.items()}, "at_base_rate": at_base_rate}
