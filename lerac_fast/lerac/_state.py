"""The state of a LeRaC, as checkpoints hold it."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from lerac_fast.lerac._rates import find_groups, of_the_kind, set_lrs, unshare_lrs

if TYPE_CHECKING:
    from lerac_fast.lerac.scheduler import LeRaC

PER_GROUP = ("ratios", "base_lrs", "_full_lrs", "_left_lrs")  # what it keeps for each of its groups
_NUMBERS = ("total_iters", "curve", "last_epoch", "_step_count", "_lowest_ratio", "_starts_lowered")


def state_of(curriculum: LeRaC) -> dict[str, Any]:
    """Return the state as plain numbers and lists, of the groups that the optimizer still has."""
    groups = curriculum.optimizer.param_groups
    found = find_groups(curriculum._groups, groups)
    return {
        **{name: getattr(curriculum, name) for name in _NUMBERS},
        **{name: [float(getattr(curriculum, name)[j]) for _, j in found] for name in PER_GROUP},
        "_positions": [i for i, _ in found],
        "_last_lr": [float(lr) for lr in curriculum._last_lr],
        "lrs": [float(group["lr"]) for group in groups],
    }


def load_state(curriculum: LeRaC, state_dict: dict[str, Any]) -> None:
    """Put a state in the place of the present one, and its rates into the groups; ValueError where it does not fit."""
    names = state_of(curriculum).keys()
    if missing := [name for name in names if name not in state_dict]:
        raise ValueError(f"this is not the state of a LeRaC: it has no {', '.join(map(repr, missing))}")
    state = {name: copy(state_dict[name]) for name in names}
    lrs, last_lr, groups = state.pop("lrs"), state.pop("_last_lr"), curriculum.optimizer.param_groups
    if len(lrs) != len(groups):
        raise ValueError(
            f"this state is of {len(lrs)} param groups and the optimizer has {len(groups)}: build the groups as "
            "they were, with those that were added (add_param_group) and without those that were removed"
        )
    curriculum._groups = [groups[i] for i in state["_positions"]]
    curriculum.__dict__.update(state)
    unshare_lrs(curriculum.optimizer)
    set_lrs(groups, lrs)
    curriculum.base_lrs = [
        of_the_kind(group["lr"], float(base))
        for group, base in zip(curriculum._groups, curriculum.base_lrs, strict=True)
    ]
    # Shorter than the groups if one was added since the last step.
    curriculum._last_lr = [of_the_kind(group["lr"], lr) for group, lr in zip(groups, last_lr, strict=False)]
